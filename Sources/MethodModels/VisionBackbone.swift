public import AdvGRPO
public import ImageModels
import Raster
public import TensorCore

/// A vision transformer as the method sees it: images to features, each prepared the way the reward's settings say.
public struct VisionBackbone: Sendable {
    /// The frozen network.
    public let network: DINOv2
    private let resize: ResizeMethod
    private let chunks: Chunks

    /// Loads a folder with weights and `config.json`.
    ///
    /// - Parameters:
    ///   - folder: of the model.
    ///   - engine: what computes.
    ///   - dtype: precision of weights and activations.
    ///   - resize: how images reach the network's size.
    ///   - chunks: images computed at once.
    /// - Throws: `ModelError`, `SafeTensorsError` naming the file.
    public init(folder: String, engine: any Engine, dtype: DType, resize: ResizeMethod, chunks: Chunks) throws {
        network = try DINOv2(folder: folder, engine: engine, dtype: dtype)
        let names = network.leftOut
        leftOut =
            names.isEmpty
            ? nil
            : "\(folder): left out \(names.count) tensors behind the features: "
                + names.prefix(4).joined(separator: ", ") + (names.count > 4 ? ", ..." : "")
        self.resize = resize
        self.chunks = chunks
    }

    /// A sentence that names what of the folder is no part of the features and was not read; nil where all is.
    public let leftOut: String?

    /// Width and depth, for the discriminator's heads.
    public var shape: BackboneShape {
        BackboneShape(width: network.configuration.width, depth: network.configuration.layerCount)
    }

    /// The network as a function; pieces of a batch run on the lanes.
    public func function(lanes: Lanes) -> BackboneFunction {
        { images_BHWC, blocks, purpose in
            let prepared = prepare(images_BHWC, purpose)
            let ranges = chunks.ranges(prepared.shape[0])
            let parts = lanes.map(ranges.count) { piece in features(prepared.rows(ranges[piece]), blocks: blocks) }
            return BackboneFeatures(
                classToken_BD: concatenated(parts.map(\.classToken_BD), axis: 0),
                patches_BND: concatenated(parts.map(\.patches_BND), axis: 0),
                blocks: Dictionary(
                    blocks.map { block in (block, concatenated(parts.compactMap { $0.blocks[block] }, axis: 0)) }
                ) { first, _ in first })
        }
    }

    private func features(_ images_BHWC: Tensor, blocks: [Int]) -> BackboneFeatures {
        // The network numbers the embedding 0 and the output of block k as k + 1.
        let features = network.features(images_BHWC, layers: blocks.map { $0 + 1 })
        let outputs = blocks.compactMap { block in
            features.layers[block + 1].map { tokens in
                let (classToken, patches) = network.split(tokens)
                return (block, concatenated([classToken.reshaped(classToken.shape[0], 1, -1), patches], axis: 1))
            }
        }
        return BackboneFeatures(
            classToken_BD: features.classToken, patches_BND: features.patches,
            blocks: Dictionary(outputs) { first, _ in first })
    }

    /// What one of its blocks reads as a function, all tokens, fp32; pieces of a batch run on the lanes.
    ///
    /// - Parameter block: its number, from 0.
    public func states(before block: Int, lanes: Lanes) -> StatesFunction {
        { images_BHWC, purpose in
            let prepared = prepare(images_BHWC, purpose)
            let ranges = chunks.ranges(prepared.shape[0])
            let parts = lanes.map(ranges.count) { piece in
                let pixels = network.normalizedPixels(prepared.rows(ranges[piece]))
                return network.hiddenStates(pixels, layers: [block])[0].converted(to: .float32)
            }
            return concatenated(parts, axis: 0)
        }
    }

    /// Images at the network's size: as tensors without antialiasing (by the network), or through truncated 8-bit images and
    /// Pillow's antialiased bicubic, as the released training does (method.md 1.7).
    private func prepare(_ images_BHWC: Tensor, _ purpose: FeaturePurpose) -> Tensor {
        guard resize == .pil || (resize == .trainPILScoreTensor && purpose == .training) else { return images_BHWC }
        let (B, side) = (images_BHWC.shape[0], network.configuration.imageSize)
        guard images_BHWC.engine.computes else { return images_BHWC.engine.zeros([B, side, side, 3]) }
        let resized = RGBImage.images(of: images_BHWC, .down).map {
            $0.resized(width: side, height: side, filter: .bicubic)
        }
        return RGBImage.tensor(of: resized, on: images_BHWC.engine)
    }
}
