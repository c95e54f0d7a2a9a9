#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// JSON configuration files of models.
public enum ConfigurationFile {
    /// Decodes a file.
    ///
    /// - Throws: `configuration`, naming the file and the entry.
    public static func read<Value: Decodable>(_ type: Value.Type, path: String) throws(ModelError) -> Value {
        guard let data = FileManager.default.contents(atPath: path) else {
            throw ModelError(
                code: .configuration, source: path, message: "cannot be read; check that the model folder is complete")
        }
        do {
            return try JSONDecoder().decode(type, from: data)
        } catch {
            throw ModelError(code: .configuration, source: path, message: explanation(error))
        }
    }

    /// A file's text.
    ///
    /// - Throws: `configuration` when it cannot be read or is not UTF-8.
    public static func text(path: String) throws(ModelError) -> String {
        guard let data = FileManager.default.contents(atPath: path) else {
            throw ModelError(
                code: .configuration, source: path, message: "cannot be read; check that the model folder is complete")
        }
        guard let text = String(validating: data, as: UTF8.self) else {
            throw ModelError(code: .configuration, source: path, message: "is not UTF-8 text")
        }
        return text
    }

    /// The largest size a configuration may state: products of three still fit 64 bits.
    public static let largestSize = 1 << 20

    /// Refuses sizes no model has, which would overflow or divide by zero later.
    ///
    /// - Parameter sizes: by the file's own names; each 1 to `largestSize`.
    /// - Throws: `configuration`, naming file and entry.
    public static func requireSizes(_ sizes: KeyValuePairs<String, Int>, path: String) throws(ModelError) {
        for (name, size) in sizes where !(1...largestSize).contains(size) {
            throw ModelError(
                code: .configuration, source: path,
                message: "entry \"\(name)\" is \(size), expected 1 to \(largestSize)")
        }
    }

    /// Whether a file exists.
    public static func exists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }

    private static func explanation(_ error: any Error) -> String {
        func path(_ context: DecodingError.Context, _ last: String? = nil) -> String {
            (context.codingPath.map(\.stringValue) + (last.map { [$0] } ?? [])).joined(separator: ".")
        }
        switch error as? DecodingError {
        case .keyNotFound(let key, let context): return "has no entry \"\(path(context, key.stringValue))\""
        case .valueNotFound(_, let context): return "entry \"\(path(context))\" is null"
        case .typeMismatch(let type, let context): return "entry \"\(path(context))\" is not a \(type)"
        default: return "is not valid JSON"
        }
    }
}
