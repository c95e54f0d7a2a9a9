public import SafeTensors
public import TensorCore

/// A fixture file: tensors computed by a reference library.
public struct Golden: Sendable {
    /// The file.
    public let file: SafeTensorsFile

    /// Opens `Tests/Fixtures/<name>`.
    public init(_ name: String) throws {
        file = try SafeTensorsFile(path: Repository.fixtures + "/" + name)
    }

    /// The names of all tensors, or of those below a prefix with the prefix removed, sorted.
    public func names(below prefix: String = "") -> [String] {
        file.entries.map(\.name).filter { $0.hasPrefix(prefix) }.map { String($0.dropFirst(prefix.count)) }.sorted()
    }

    /// Whether a tensor exists.
    public func contains(_ name: String) -> Bool { file[name] != nil }

    /// A tensor's shape.
    public func shape(_ name: String) throws -> [Int] {
        guard let entry = file[name] else { throw GoldenError(file: file.path, tensor: name) }
        return entry.shape
    }

    /// A floating-point tensor's elements.
    public func floats(_ name: String) throws -> [Float] { try file.floats(of: name) }

    /// An integer tensor's elements (`I32`, `I64` or `U8`).
    public func integers(_ name: String) throws -> [Int] {
        guard let entry = file[name] else { throw GoldenError(file: file.path, tensor: name) }
        let bytes = try file.bytes(of: name)
        switch entry.dtype {
        case .int32: return bytes.array(of: Int32.self).map(Int.init)
        case .int64: return bytes.array(of: Int64.self).map(Int.init)
        case .uint8: return bytes.array(of: UInt8.self).map(Int.init)
        default: throw GoldenError(file: file.path, tensor: name)
        }
    }

    /// A floating-point tensor on an engine, fp32.
    public func tensor(_ name: String, on engine: any Engine) throws -> Tensor {
        engine.tensor(try floats(name), shape: try shape(name))
    }
}

/// A tensor that a fixture lacks or that has another type.
public struct GoldenError: Error, CustomStringConvertible {
    let file: String
    let tensor: String

    /// Names the file and the tensor.
    public var description: String { "\(file) has no tensor \"\(tensor)\" of the wanted type" }
}
