internal import Foundation

/// A folder that is removed when the test ends.
public final class TemporaryFolder {
    /// Its path.
    public let path: String

    /// A new one.
    public init() throws {
        path = NSTemporaryDirectory() + "advgrpo-tests-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    /// A file in it, as UTF-8.
    public func text(_ name: String) throws -> String { try String(contentsOfFile: "\(path)/\(name)", encoding: .utf8) }

    /// Whether a file is in it.
    public func exists(_ name: String) -> Bool { FileManager.default.fileExists(atPath: "\(path)/\(name)") }

    /// What is in a folder of it, sorted.
    public func names(_ name: String = "") throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: "\(path)/\(name)").sorted()
    }
}
