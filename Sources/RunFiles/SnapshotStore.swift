internal import Foundation
internal import Platform
public import Processes

/// The snapshots of a run: `checkpoints/step-NNNNNN/`, each complete or absent, and `latest`, a link to the newest.
///
/// A snapshot is written into a folder of a temporary name; every file and folder is synced, a manifest with the SHA-256
/// of every file is added, and only then the folder gets its name. What is half-written after a crash is removed when the
/// store is opened next.
public struct SnapshotStore: Sendable {
    /// A snapshot whose files are what its manifest says.
    public struct Snapshot: Sendable, Equatable {
        /// The step after which it was taken.
        public let step: Int
        /// Its folder.
        public let path: String
    }

    /// The `checkpoints` folder.
    public let folder: String
    /// Snapshots that are kept.
    public let keptCount: Int

    /// Opens the store and removes what an interrupted write left behind.
    ///
    /// - Parameters:
    ///   - folder: created if missing; only the process that holds the run directory may open it.
    ///   - keptCount: at least 2, so that there is one to fall back to.
    public init(folder: String, keptCount: Int = 3) throws(RuntimeError) {
        precondition(keptCount >= 2, "snapshots: keep at least 2, not \(keptCount)")
        self.folder = folder
        self.keptCount = keptCount
        try FileStore.createFolder(folder)
        for name in Self.names(in: folder) where name.hasPrefix(".partial-") {
            try? FileManager.default.removeItem(atPath: "\(folder)/\(name)")
        }
    }

    /// Takes a snapshot.
    ///
    /// - Parameters:
    ///   - step: the step just finished; a snapshot of the same step is replaced.
    ///   - body: writes the files, in subfolders if it likes, below the folder it is given.
    /// - Returns: the finished snapshot.
    /// - Throws: what `body` throws, or `diskFull`/`unwritable`. The store then is as it was before.
    @discardableResult
    public func write(step: Int, _ body: (String) throws -> Void) throws -> Snapshot {
        let partial = "\(folder)/.partial-\(Self.name(step))"
        let path = "\(folder)/\(Self.name(step))"
        try? FileManager.default.removeItem(atPath: partial)
        do {
            try FileStore.createFolder(partial)
            try body(partial)
            try seal(partial)
            if FileStore.exists(path) { try FileManager.default.removeItem(atPath: path) }
            try FileStore.rename(partial, to: path)
        } catch {
            try? FileManager.default.removeItem(atPath: partial)
            throw error
        }
        try FileStore.sync(folder)
        try FileStore.link("\(folder)/latest", to: Self.name(step))
        prune()
        return Snapshot(step: step, path: path)
    }

    /// The newest snapshot whose files are intact.
    ///
    /// - Parameter warn: told about every newer snapshot that is not, in one sentence.
    /// - Throws: `noSnapshot` if there is none at all, `corruptSnapshot` if none is intact.
    public func newest(warn: (String) -> Void) throws(RuntimeError) -> Snapshot {
        var firstError: RuntimeError?
        for step in steps().reversed() {
            let path = "\(folder)/\(Self.name(step))"
            do {
                try Self.verify(path)
                return Snapshot(step: step, path: path)
            } catch {
                warn("\(error.description); trying the snapshot before it")
                firstError = firstError ?? error
            }
        }
        throw firstError
            ?? RuntimeError(
                code: .noSnapshot, subject: folder, message: "holds no snapshot",
                remedy: "the run ended before its first snapshot; start it anew in another --run-dir")
    }

    /// Removes the snapshots of later steps, the newest first, and has `latest` name the newest of the others.
    public func discard(after step: Int) throws(RuntimeError) {
        for later in steps().reversed() where later > step {
            do {
                try FileManager.default.removeItem(atPath: "\(folder)/\(Self.name(later))")
            } catch {
                throw RuntimeError(
                    code: .unwritable, subject: "\(folder)/\(Self.name(later))", message: "cannot be removed",
                    remedy: "check the folder's permissions")
            }
        }
        if let newest = steps().last { try FileStore.link("\(folder)/latest", to: Self.name(newest)) }
    }

    /// The steps of all snapshots, ascending, intact or not.
    public func steps() -> [Int] { Self.snapshots(in: folder).map(\.step) }

    /// What a `checkpoints` folder holds, by step, intact or not; for readers beside the process that holds the run.
    public static func snapshots(in folder: String) -> [Snapshot] {
        names(in: folder).compactMap { name in
            guard name.hasPrefix("step-"), let step = Int(name.dropFirst(5)) else { return nil }
            return Snapshot(step: step, path: "\(folder)/\(name)")
        }.sorted { $0.step < $1.step }
    }

    /// Compares a snapshot's files with its manifest.
    ///
    /// - Throws: `corruptSnapshot`, naming the first file that is missing or differs.
    public static func verify(_ path: String) throws(RuntimeError) {
        let file = path + "/" + manifestName
        let manifest: Manifest
        do {
            manifest = try JSONDecoder().decode(Manifest.self, from: Data(FileStore.read(file)))
        } catch {
            throw RuntimeError(
                code: .corruptSnapshot, subject: path, message: "its manifest is missing or damaged",
                remedy: "remove the folder")
        }
        for (name, expected) in manifest.files.sorted(by: { $0.key < $1.key }) {
            let found = try? entry("\(path)/\(name)")
            guard found == expected else {
                throw RuntimeError(
                    code: .corruptSnapshot, subject: "\(path)/\(name)",
                    message: found == nil ? "is missing from the snapshot" : "is not what the snapshot's manifest says",
                    remedy: "remove the folder")
            }
        }
    }

    private static let manifestName = "manifest.json"

    private struct Manifest: Codable {
        struct Entry: Codable, Equatable {
            let bytes: Int
            let sha256: String
        }
        let format: Int
        let files: [String: Entry]
    }

    /// Syncs everything below a folder and writes its manifest.
    private func seal(_ path: String) throws {
        var files: [String: Manifest.Entry] = [:]
        var folders = [path]
        let names = FileManager.default.enumerator(atPath: path)?.compactMap { $0 as? String } ?? []
        for name in names.sorted() {
            let full = "\(path)/\(name)"
            if FileStore.isFolder(full) {
                folders.append(full)
            } else {
                try FileStore.sync(full)
                files[name] = try Self.entry(full)
            }
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        let manifest = try encoder.encode(Manifest(format: 1, files: files))
        try FileStore.replace("\(path)/\(Self.manifestName)", with: Array(manifest))
        for folder in folders.reversed() { try FileStore.sync(folder) }
    }

    private static func entry(_ path: String) throws(RuntimeError) -> Manifest.Entry {
        var hash = SHA256()
        var count = 0
        try FileStore.forEachChunk(of: path) { bytes in
            hash.update(bytes)
            count += bytes.count
        }
        return Manifest.Entry(bytes: count, sha256: hash.hexadecimal)
    }

    /// Removes the oldest snapshots; one that cannot be removed is tried again next time.
    private func prune() {
        for step in steps().dropLast(keptCount) {
            try? FileManager.default.removeItem(atPath: "\(folder)/\(Self.name(step))")
        }
    }

    private static func name(_ step: Int) -> String {
        let digits = String(step)
        return "step-" + String(repeating: "0", count: max(0, 6 - digits.count)) + digits
    }

    private static func names(in folder: String) -> [String] {
        (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    }
}
