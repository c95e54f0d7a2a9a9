public import NeuralNetworks
public import TensorCore

/// A model that transformers keeps in a folder of its own: `config.json`, and weights of which every tensor is read.
public protocol TransformersModel: Sendable {
    /// Its `config.json`.
    associatedtype Configuration: TransformersConfiguration

    /// Sizes.
    var configuration: Configuration { get }
    /// All tensors by their name in the checkpoint.
    var parameters: Parameters { get }
    /// Precision of weights and activations.
    var dtype: DType { get }
    /// What computes it.
    var engine: any Engine { get }

    /// Takes all its tensors from `weights`.
    ///
    /// - Throws: `ModelError` unless names and shapes are exactly those the configuration asks for.
    init(_ configuration: Configuration, weights: Weights) throws
}

/// What a model's `config.json` says.
public protocol TransformersConfiguration: Sendable, Equatable {
    /// Reads `config.json`.
    ///
    /// - Throws: `configuration`, `unsupported`.
    init(path: String) throws(ModelError)
}

extension TransformersModel {
    /// Loads a folder with `config.json` and weights.
    ///
    /// - Throws: `ModelError`, `SafeTensorsError`.
    public init(folder: String, engine: any Engine, dtype: DType = .float32) throws {
        try self.init(
            Configuration(path: folder + "/config.json"), weights: Weights(path: folder, engine: engine, dtype: dtype))
    }

    /// The same model with some tensors replaced, tracked ones for example; they are converted to the model's precision.
    ///
    /// - Throws: `unusedTensors` or `wrongShape` when the model has no place for one.
    public func replacing(_ replacements: Parameters) throws -> Self {
        try Self(
            configuration,
            weights: Weights(parameters.merging(replacements), source: "\(Self.self)", engine: engine, dtype: dtype))
    }
}
