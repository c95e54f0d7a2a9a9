public import NeuralNetworks
import Platform
public import SafeTensors
public import TensorCore

/// Where the parts of a Stable Diffusion 3 lie: in a folder as diffusers saves it, or in a single-file checkpoint that lies in such a
/// folder.
///
/// A checkpoint has the weights of the transformer and the autoencoder, often of text encoders, under Stability's names. What it lacks,
/// weights of other parts, configurations, tokenizers and the scheduler, is taken from the folder the file lies in.
public struct PipelineFiles: Sendable {
    /// The folder with `model_index.json`.
    public let folder: String
    /// As it was named: the folder or the file.
    public let path: String
    private let checkpoint: SafeTensorsFolder?

    /// Finds a pipeline.
    ///
    /// - Parameter path: a folder, or a single-file checkpoint.
    /// - Throws: `unsupported` for a checkpoint of another model and for one that lies alone; `SafeTensorsError` when a file is no weights
    ///   file.
    public init(path: String) throws {
        self.path = path
        guard Files<ModelError>.exists(path), !Files<ModelError>.isFolder(path) else {
            (folder, checkpoint) = (path, nil)
            return
        }
        folder = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
        let file = try SafeTensorsFolder(path: path)
        checkpoint = file
        func refusal(_ message: String) -> ModelError { ModelError(code: .unsupported, source: path, message: message) }
        let other = Self.others.first { mark, _ in file.entries.contains { $0.name.contains(mark) } }
        guard other == nil, PipelinePart.transformer.tensors(inCheckpoint: file) != nil else {
            throw refusal(
                "is \(other?.model ?? "a file without SD3's transformer"), not a checkpoint of Stable Diffusion 3; "
                    + "name a folder as diffusers saves a pipeline, or a checkpoint of SD3 in such a folder")
        }
        guard Files<ModelError>.exists(self.file("model_index.json")) else {
            throw refusal(
                "is a single-file checkpoint of Stable Diffusion 3, which has no tokenizers and no configurations, and there is no "
                    + "model_index.json beside it; put it into a folder with the pipeline's small files (model_index.json, scheduler, "
                    + "tokenizers, every config.json), or convert it: python3 -c \"from diffusers import StableDiffusion3Pipeline as P; "
                    + "P.from_single_file('\(path)').save_pretrained('FOLDER')\"")
        }
    }

    /// What other models' checkpoints have and SD3's have not.
    private static let others = [
        (mark: "double_blocks.", model: "a checkpoint of FLUX"),
        (mark: "input_blocks.", model: "a checkpoint of Stable Diffusion 1, 2 or XL"),
        (mark: "lora_", model: "an adapter"),
    ]

    /// Path of a file of the folder, `transformer/config.json` for example.
    public func file(_ name: String) -> String { folder + "/" + name }

    /// Path of a part's folder.
    public func folder(of part: PipelinePart) -> String { file(part.rawValue) }

    /// The part's weights: the checkpoint's where it has them, else those of the part's folder, under either program's names.
    ///
    /// - Throws: `SafeTensorsError`.
    public func weights(of part: PipelinePart, engine: any Engine, dtype: DType) throws -> Weights {
        if let checkpoint, let tensors = part.tensors(inCheckpoint: checkpoint) {
            return Weights(checkpoint, tensors: tensors, engine: engine, dtype: dtype)
        }
        return try Self.weights(of: part, at: folder(of: part), engine: engine, dtype: dtype)
    }

    /// The weights of a part by itself: a folder or a file, under either program's names.
    ///
    /// - Throws: `SafeTensorsError`.
    static func weights(of part: PipelinePart, at path: String, engine: any Engine, dtype: DType) throws -> Weights {
        let file = try SafeTensorsFolder(path: path)
        return Weights(
            file, tensors: part.tensors(inCheckpoint: file) ?? part.tensors(inOwn: file), engine: engine, dtype: dtype)
    }

    /// The checkpoint with the names it has the part's tensors under; nil where they are in the part's folder.
    public func checkpoint(of part: PipelinePart) -> (file: SafeTensorsFolder, names: Set<String>)? {
        guard let checkpoint, let tensors = part.tensors(inCheckpoint: checkpoint) else { return nil }
        return (checkpoint, Set(tensors.values.compactMap(\.storedName)))
    }

    /// The autoencoder.
    ///
    /// - Parameters:
    ///   - engine: what computes.
    ///   - withEncoder: false where nothing is encoded, to save its memory.
    /// - Throws: `ModelError`, `SafeTensorsError`.
    public func autoencoder(engine: any Engine, withEncoder: Bool = true) throws -> AutoencoderKL {
        try AutoencoderKL(
            AutoencoderKLConfiguration(path: folder(of: .autoencoder) + "/config.json"),
            weights: weights(of: .autoencoder, engine: engine, dtype: .float32), withEncoder: withEncoder)
    }
}
