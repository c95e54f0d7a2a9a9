import AdvGRPO
import ComputeRoles
import Configuration
import Datasets
import MethodModels
import Raster
import Synchronization
import TensorCore

/// The references of a run's training prompts as latents, for supervised steps: encoded when they are first asked for, then kept.
final class SupervisedReferences: Sendable {
    /// Every reference of every prompt, prompts in the order of the list: which prompt, and its number among that prompt's.
    private let places: [(prompt: String, index: Int)]
    /// References of a prompt, [R, H, W, 3] in [0, 1].
    private let pictures: @Sendable (String) throws -> Tensor
    private let policy: DiffusionPolicy
    private let autoencoder: LatentAutoencoder
    /// Latents of all references of a prompt, fp32 [1, C, h, w] each.
    private let cache = Mutex<[String: [Tensor]]>([:])

    /// - Parameters:
    ///   - settings: of the run.
    ///   - prompts: those that are trained on.
    ///   - policy: conditioning of prompts.
    /// - Throws: `DatasetError`, `ModelError`, `SafeTensorsError` naming the file.
    convenience init(_ settings: Settings, prompts: [String], policy: DiffusionPolicy) throws {
        let library = try RunPrompts(settings).references(of: prompts)
        let (side, engine) = (settings.method.rollout.resolution, policy.engine)
        try self.init(
            places: prompts.flatMap { prompt in library.paths(of: prompt).indices.map { (prompt, $0) } },
            policy: policy, autoencoder: PolicySource(path: settings.model, engine: engine).autoencoder()
        ) { RGBImage.tensor(of: try library.references(of: $0, width: side, height: side), on: engine) }
    }

    init(
        places: [(prompt: String, index: Int)], policy: DiffusionPolicy, autoencoder: LatentAutoencoder,
        pictures: @escaping @Sendable (String) throws -> Tensor
    ) {
        self.places = places
        self.policy = policy
        self.autoencoder = autoencoder
        self.pictures = pictures
    }

    /// Number of references.
    var count: Int { places.count }

    /// Encodes what some steps will read and is not known yet, prompt by prompt on the lanes.
    func prepare(_ references: [Int], lanes: Lanes) throws {
        let known = cache.withLock { Set($0.keys) }
        let missing = Set(references.map { places[$0].prompt }).subtracting(known).sorted()
        let encoded = try lanes.map(missing.count) { [self] index in
            let images = try pictures(missing[index])
            return policy.engine.noting(.caches) {
                (0..<images.shape[0]).map { autoencoder.encode(images.rows($0..<$0 + 1)) }
            }
        }
        cache.withLock { $0.merge(zip(missing, encoded)) { known, _ in known } }
    }

    /// A reference by its number.
    ///
    /// - Throws: what reading its prompt's images or encoding its prompt throws.
    func latents(_ reference: Int) throws -> ReferenceLatents {
        let (prompt, index) = places[reference]
        if cache.withLock({ $0[prompt] == nil }) { try prepare([reference], lanes: Lanes(count: 1)) }
        guard let latents = cache.withLock({ $0[prompt]?[index] }) else {
            preconditionFailure("reference \(reference) is not encoded")
        }
        return ReferenceLatents(latents: latents, prompt: try policy.conditioning(prompt))
    }
}
