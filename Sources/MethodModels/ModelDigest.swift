import CXXHash
import Foundation
import NeuralNetworks
import Platform
import SafeTensors

/// Names of models by their content, by which roles and snapshots know that they mean the same one.
///
/// A model's digest is the XXH3-128 of its tensors, in the order of their names whatever files they lie in, and of its small files
/// without byte-order marks, carriage returns and what a library notes about itself in a configuration: `_name_or_path` and versions.
/// It tells a mistake, not a forgery.
public enum ModelDigest {
    /// The parts of a policy model that are there, each under `model/PART`. A part in a single-file checkpoint has another digest than
    /// the same one in its folder.
    ///
    /// - Parameter roles: of the parts looked at; all unless given.
    /// - Throws: `ModelError`, `SafeTensorsError` naming the file.
    public static func parts(of files: PolicyFiles, _ roles: Set<ModelPart.Role>? = nil) throws -> [String: String] {
        var digests: [String: String] = [:]
        for part in try files.parts() where roles?.contains(part.role) != false {
            digests["model/\(part.name)"] = try folder(part.folder, weights: part.weights)
        }
        return digests
    }

    /// The same of the model at a path.
    ///
    /// - Throws: `ModelError`, `SafeTensorsError` naming the file.
    public static func pipeline(_ path: String, _ roles: Set<ModelPart.Role>? = nil) throws -> [String: String] {
        try parts(of: PolicyFiles(path: path), roles)
    }

    /// A folder of one model, or a file of weights.
    ///
    /// - Parameters:
    ///   - path: of the folder or file.
    ///   - additional: weights files in the folder that belong to the model beside its own.
    /// - Throws: `ModelError`, `SafeTensorsError` naming the file.
    public static func folder(_ path: String, additional: [String] = []) throws -> String {
        try folder(path, additional: additional, weights: nil)
    }

    private static func folder(
        _ path: String, additional: [String] = [], weights: (file: SafeTensorsFolder, names: Set<String>)?
    ) throws -> String {
        let hash = StreamingHash()
        let names = try Files<ModelError>.isFolder(path) ? FileManager.default.contentsOfDirectory(atPath: path) : []
        for name in names.sorted() where isText(name) {
            hash.add(name, try text("\(path)/\(name)"))
        }
        if let weights {
            try add(weights.file, to: hash) { weights.names.contains($0) }
        } else if names.isEmpty || names.contains(where: { $0.hasSuffix(".safetensors") }) {
            try add(SafeTensorsFolder(path: path), to: hash)
        }
        for name in additional { try add(SafeTensorsFolder(path: "\(path)/\(name)"), to: hash) }
        return hash.hexadecimal
    }

    /// The first of some names under which both have different models; nil where they agree.
    public static func difference(_ mine: [String: String], _ theirs: [String: String]) -> String? {
        mine.keys.sorted().first { theirs[$0] != nil && theirs[$0] != mine[$0] }
    }

    private static func isText(_ name: String) -> Bool {
        [".json", ".txt", ".model"].contains { name.hasSuffix($0) } && !name.contains(".safetensors.index.")
    }

    private static func add(
        _ weights: SafeTensorsFolder, to hash: StreamingHash, where belongs: (String) -> Bool = { _ in true }
    ) throws {
        for entry in weights.entries.sorted(by: { $0.name < $1.name }) where belongs(entry.name) {
            try weights.withBytes(of: entry.name) {
                hash.add("\(entry.name) \(entry.dtype.rawValue) \(entry.shape)", $0)
            }
        }
    }

    /// A small file as it is meant: configurations with sorted keys, without what a library notes about itself.
    private static func text(_ path: String) throws(ModelError) -> [UInt8] {
        let bytes = withoutByteOrderMark(try Files<ModelError>.read(path)).filter { $0 != UInt8(ascii: "\r") }
        guard path.hasSuffix(".json"), bytes.count < 1 << 16,
            let object = try? JSONSerialization.jsonObject(with: Data(bytes)) as? [String: Any]
        else { return bytes }
        let meant = object.filter { !$0.key.hasPrefix("_") && $0.key != "transformers_version" }
        // What was read as JSON can be written as JSON.
        return (try? JSONSerialization.data(withJSONObject: meant, options: .sortedKeys)).map(Array.init) ?? bytes
    }
}

/// XXH3-128 over labelled pieces.
private final class StreamingHash {
    private let state = XXH3_createState()

    init() { XXH3_128bits_reset(state) }

    deinit { XXH3_freeState(state) }

    /// A piece; its label and length are part of it, so that two pieces never pass for one.
    func add(_ label: String, _ bytes: UnsafeRawBufferPointer) {
        let head = Array("\(label)\n\(bytes.count)\n".utf8)
        XXH3_128bits_update(state, head, head.count)
        XXH3_128bits_update(state, bytes.baseAddress, bytes.count)
    }

    func add(_ label: String, _ bytes: [UInt8]) { bytes.withUnsafeBytes { add(label, $0) } }

    /// High half first, as `xxhsum -H2` prints it.
    var hexadecimal: String {
        let value = XXH3_128bits_digest(state)
        return String(format: "%016llx%016llx", value.high64, value.low64)
    }
}
