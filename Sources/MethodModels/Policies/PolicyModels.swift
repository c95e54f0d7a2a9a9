import Foundation
public import ImageModels
public import NeuralNetworks
import Platform
public import TensorCore

/// The policy models there are.
public enum PolicyModels {
    /// One row a model. The first reads what names no class of its own.
    public static let rows: [any PolicyModel.Type] = [StableDiffusion3.self]
}

/// A policy model on disk, recognised and not loaded.
public struct PolicyFiles: Sendable {
    /// As it was named: a folder that diffusers saved, or a single-file checkpoint in such a folder.
    public let path: String
    /// The folder with `model_index.json`.
    public let folder: String
    /// What reads it.
    public let model: any PolicyModel.Type

    /// Finds the row that reads a model: the one of the class that `model_index.json` names, the first where there is no such file.
    ///
    /// - Throws: `unsupported` for another class, with those that are known; `configuration` when the file cannot be read.
    public init(path: String, among rows: [any PolicyModel.Type] = PolicyModels.rows) throws(ModelError) {
        precondition(!rows.isEmpty, "no policy models")
        self.path = path
        let isFile = Files<ModelError>.exists(path) && !Files<ModelError>.isFolder(path)
        folder = isFile ? Files<ModelError>.parent(of: path) : path
        let index = folder + "/model_index.json"
        guard Files<ModelError>.exists(index) else {
            model = rows[0]
            return
        }
        struct Header: Decodable { var _class_name: String? }
        let name = try ConfigurationFile.read(Header.self, path: index)._class_name
        guard let row = rows.first(where: { $0.pipelineClass == name }) else {
            throw ModelError(
                code: .unsupported, source: index,
                message:
                    "describes \(name.map(ConfigurationFile.abbreviated) ?? "a pipeline without _class_name"), which is not known; "
                    + "name a model of \(rows.map { $0.pipelineClass }.joined(separator: " or "))")
        }
        model = row
    }

    /// Path of a file or folder beside `model_index.json`.
    public func file(_ name: String) -> String { folder + "/" + name }

    /// Its parts that are there.
    ///
    /// - Throws: `ModelError`, `SafeTensorsError` naming the file.
    public func parts() throws -> [ModelPart] {
        try model.parts(of: path).filter { Files<ModelError>.isFolder($0.folder) }
    }

    /// What reads prompts.
    ///
    /// - Throws: `ModelError` naming the file.
    public func promptReaders() throws -> [PromptReader] { try model.promptReaders(of: path) }

    /// The first of a policy's parts with a role; nil where it is not there.
    func part(_ role: ModelPart.Role) throws -> ModelPart? { try parts().first { $0.role == role } }
}

/// What a policy model is loaded from, and how.
public struct PolicySource: Sendable {
    /// The model on disk.
    public let files: PolicyFiles
    /// Runs it.
    public let engine: any Engine
    /// Precision of the velocity network and of the text encoders.
    public let dtype: DType
    /// Folder or file of a velocity network in place of the model's own; nil for its own.
    public let network: String?
    /// A tracked velocity that would keep more bytes than this for its backward pass computes its activations twice instead.
    var activationByteLimit = Int.max

    public init(_ files: PolicyFiles, engine: any Engine, dtype: DType = .float32, network: String? = nil) {
        self.files = files
        self.engine = engine
        self.dtype = dtype
        self.network = network
    }

    /// The model of one of the `PolicyModels`.
    ///
    /// - Throws: `ModelError` naming file and class when there is none that reads it.
    public init(path: String, engine: any Engine, dtype: DType = .float32, network: String? = nil) throws(ModelError) {
        self.init(try PolicyFiles(path: path), engine: engine, dtype: dtype, network: network)
    }

    /// Loads everything but the text encoders.
    ///
    /// - Throws: `ModelError`, `SafeTensorsError` naming the file.
    public func model() throws -> any PolicyModel { try files.model.init(self) }

    /// Loads what makes conditioning of prompts.
    ///
    /// - Throws: `ModelError`, `SafeTensorsError` naming the file.
    public func textEncoder() throws -> TextEncoder { try files.model.textEncoder(self) }

    /// Loads what is between pictures and latents.
    ///
    /// - Throws: `ModelError`, `SafeTensorsError` naming the file.
    public func autoencoder() throws -> LatentAutoencoder { try files.model.autoencoder(self) }

    /// Loads what shows pictures as the model can make them.
    ///
    /// - Throws: as `autoencoder`.
    public func reconstruction() throws -> Reconstruction {
        let autoencoder = try autoencoder()
        return { autoencoder.decode(autoencoder.encode($0)) }
    }
}
