import AdvGRPO
import ComputeRoles
import Datasets
import MethodModels
import Raster
import Synchronization
import TensorCore

/// The reference images of a run and their features, computed once and kept.
///
/// Every tenth prompt's references are held out: they never train the discriminator, they measure it.
final class ReferenceFeatures: Sendable {
    /// References of a prompt, [R, H, W, 3] in [0, 1].
    let pictures: @Sendable (String) throws -> Tensor
    private let side: Int
    private let engine: any Engine
    /// What shows references as the model can make them; nil where they are seen as they are.
    private let reconstruction: Reconstruction?
    private let paths: [(prompt: String, index: Int)]
    private let cache = Mutex<[Key: FeatureTable]>([:])

    private struct Key: Hashable {
        var image: Int
        var purpose: Int
    }

    /// What the method reads references through.
    let prompts: [ReferenceImages.Prompt]

    /// - Parameters:
    ///   - holdsOut: whether every tenth prompt's references only measure.
    ///   - side: references are brought to side x side pixels, the size of generated images.
    ///   - reconstruction: of the policy model; nil shows references as they are.
    init(
        library: ReferenceLibrary, prompts texts: [String], holdsOut: Bool, side: Int, engine: any Engine,
        reconstruction: Reconstruction?
    ) {
        self.reconstruction = reconstruction
        pictures = {
            RGBImage.tensor(of: try library.references(of: $0, width: side, height: side), on: engine)
        }
        self.side = side
        self.engine = engine
        prompts = texts.enumerated().map { index, text in
            ReferenceImages.Prompt(
                text: text, imageCount: library.paths(of: text).count, isHeldOut: holdsOut && index % 10 == 9)
        }
        paths = texts.flatMap { text in library.paths(of: text).indices.map { (text, $0) } }
    }

    /// The same without reading a picture.
    func rehearsed() -> ReferenceFeatures {
        let counts = Dictionary(prompts.map { ($0.text, $0.imageCount) }) { first, _ in first }
        return ReferenceFeatures(
            prompts: prompts, paths: paths, side: side, engine: engine, reconstruction: reconstruction
        ) { [side, engine] in engine.zeros([counts[$0] ?? 0, side, side, 3]) }
    }

    private init(
        prompts: [ReferenceImages.Prompt], paths: [(prompt: String, index: Int)], side: Int, engine: any Engine,
        reconstruction: Reconstruction?, pictures: @escaping @Sendable (String) throws -> Tensor
    ) {
        self.prompts = prompts
        self.paths = paths
        self.side = side
        self.engine = engine
        self.reconstruction = reconstruction
        self.pictures = pictures
    }

    /// The references as the method sees them, read by a discriminator's heads.
    ///
    /// - Parameter lanes: prompts whose features are not known yet are computed side by side.
    func images(discriminator: Discriminator, networks: FrozenNetworks, lanes: Lanes) -> ReferenceImages {
        ReferenceImages(prompts: prompts) { [self] images, purpose in
            let purposeKey = purpose == .score ? 0 : 1
            let known = cache.withLock { cache in images.filter { cache[Key(image: $0, purpose: purposeKey)] != nil } }
            let missing = Set(images).subtracting(known).map { $0 - paths[$0].index }
            let firsts = Set(missing).sorted()
            let tables = try lanes.map(firsts.count) { [self] piece in
                // Images of a prompt are asked for together sooner or later: read them together.
                let prompt = paths[firsts[piece]].prompt
                return discriminator.referenceFeatures(
                    of: seen(try pictures(prompt)), prompt: prompt, purpose: purpose, networks: networks)
            }
            return cache.withLock { cache in
                for (first, table) in zip(firsts, tables) {
                    for index in 0..<table.count {
                        cache[Key(image: first + index, purpose: purposeKey)] = engine.noting(.caches) {
                            table.rows([index])
                        }
                    }
                }
                return FeatureTable(joining: images.compactMap { cache[Key(image: $0, purpose: purposeKey)] })
            }
        }
    }

    /// References as the reward sees them, [B, H, W, 3]: decoded ones are 8-bit again, as generated images are.
    func seen(_ raw: Tensor) -> Tensor {
        guard let reconstruction else { return raw }
        return RGBImage.tensor(of: RGBImage.images(of: reconstruction(raw)), on: engine)
    }
}
