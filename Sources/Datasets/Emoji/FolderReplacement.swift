internal import LibC
internal import Platform

#if canImport(FoundationEssentials)
    internal import FoundationEssentials
#else
    internal import Foundation
#endif

/// Makes a folder appear under its name only when it is complete.
///
/// Work happens in `.NAME.partial` beside it, under a lock on `.NAME.lock`, so that of several processes one works and the others wait.
/// A killed process leaves only the hidden files, which the next one removes.
struct FolderReplacement {
    let path: String
    /// Where to build the new content; exists and is empty after `begin`.
    let partial: String
    private let previous: String
    private let lock: FileLock

    /// Waits until no other process works on the same folder.
    init(path: String) throws(DatasetError) {
        let trimmed = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
        let split = trimmed.lastIndex(of: "/").map { trimmed.index(after: $0) } ?? trimmed.startIndex
        let parent = trimmed[..<split]
        let name = trimmed[split...]
        guard !name.isEmpty, name != ".", name != ".." else {
            throw DatasetError(
                code: .invalidOptions, path: path, message: "not a name for a new folder", remedy: "give another path")
        }
        self.path = trimmed
        partial = "\(parent).\(name).partial"
        previous = "\(parent).\(name).previous"
        if !parent.isEmpty {
            try Self.perform(String(parent)) {
                try FileManager.default.createDirectory(atPath: String(parent), withIntermediateDirectories: true)
            }
        }
        do throws(FileError) {
            lock = try FileLock(waitingFor: "\(parent).\(name).lock")
        } catch {
            throw DatasetError(error)
        }
    }

    /// Clears what a killed process left and makes the empty folder to work in.
    func begin() throws(DatasetError) {
        try Self.remove(partial)
        try Self.makeFolder(partial)
    }

    /// Makes one folder.
    static func makeFolder(_ path: String) throws(DatasetError) {
        try perform(path) {
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
        }
    }

    /// Whether nothing would be lost by replacing what has this name.
    static func isMissingOrEmpty(_ path: String) -> Bool {
        // A name that cannot be listed although it exists (a file, or no permission) counts as occupied.
        guard FileManager.default.fileExists(atPath: path) else { return true }
        return (try? FileManager.default.contentsOfDirectory(atPath: path))?.isEmpty ?? false
    }

    /// Waits for the disk, then puts the new folder in place of the old one.
    func commit() throws(DatasetError) {
        // One sync for thousands of small files; one fsync each would take longer than making them.
        sync()
        try Self.remove(previous)
        if FileManager.default.fileExists(atPath: path) { try FileAccess.rename(path, to: previous) }
        try FileAccess.rename(partial, to: path)
        try Self.remove(previous)
    }

    /// Removes unfinished work after an error.
    func abandon() {
        // The error that led here is the one to report; leftovers are cleared by the next `begin`.
        try? FileManager.default.removeItem(atPath: partial)
    }

    private static func remove(_ path: String) throws(DatasetError) {
        guard FileManager.default.fileExists(atPath: path) else { return }
        try perform(path) { try FileManager.default.removeItem(atPath: path) }
    }

    private static func perform(_ path: String, _ body: () throws -> Void) throws(DatasetError) {
        do { try body() } catch { throw unwritable(path, "\(error)") }
    }

    private static func unwritable(_ path: String, _ reason: String) -> DatasetError {
        DatasetError(
            code: .unwritable, path: path, message: "cannot be written (\(reason))",
            remedy: "check that the folder above is writable and has space")
    }
}
