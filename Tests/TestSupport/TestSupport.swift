public import TensorCore

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// The engines every numerical test runs on, the plain one first: those of this build that run here.
public let testEngines: [any Engine] = EngineKind.allCases.reversed().filter(\.isAvailable).map { kind in
    do {
        return try kind.engine()
    } catch {
        preconditionFailure("\(error)")
    }
}

/// Folders of the repository, found from this file.
public enum Repository {
    /// The repository's root.
    public static let path = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().path
    /// `Tests/Fixtures`.
    public static let fixtures = path + "/Tests/Fixtures"
    /// `Models`.
    public static let models = path + "/Models"
}

/// A fresh folder that is removed when `body` ends.
public func withTemporaryFolder<Result>(_ body: (String) throws -> Result) throws -> Result {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("advgrpo-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    return try body(folder.path)
}

/// The error of a type that `body` throws; nil when it throws none, or one of another type.
public func thrown<Failure: Error>(_ type: Failure.Type, _ body: () throws -> Void) -> Failure? {
    do {
        try body()
        return nil
    } catch {
        return error as? Failure
    }
}
