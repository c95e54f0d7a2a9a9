import Foundation
import Synchronization
import TestSupport
import Testing

@testable import Platform

/// Keeps the error as it is.
private struct Told: FileFailure, Equatable {
    let error: FileError
    init(_ error: FileError) { self.error = error }
}

private typealias Store = Files<Told>

@Suite("Files")
struct FilesTests {
    private func names(_ folder: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
    }

    @Test("a home folder is written out, and no other path is changed")
    func homeFolder() throws {
        let home = try #require(ProcessInfo.processInfo.environment["HOME"])
        #expect(try HomeFolder.expanded("~/runs/x") == home + "/runs/x")
        #expect(try HomeFolder.expanded("~") == home)
        // The entry of the system's own user list.
        let root = try #require(
            try String(contentsOfFile: "/etc/passwd", encoding: .utf8).split(separator: "\n").first {
                $0.hasPrefix("root:")
            })
        #expect(
            try HomeFolder.expanded("~root/a") == root.split(separator: ":", omittingEmptySubsequences: false)[5] + "/a"
        )
        for path in ["", "a/~", "./~", "/~", "a~b"] { #expect(try HomeFolder.expanded(path) == path) }
        do throws(FileError) {
            Issue.record("\(try HomeFolder.expanded("~no-such-user/a"))")
        } catch {
            #expect(error.cause == .noSuchUser)
        }
    }

    @Test("text is UTF-8 without its byte-order mark")
    func text() throws {
        try withTemporaryFolder { folder in
            let path = folder + "/a"
            for (bytes, expected) in [
                ([0xEF, 0xBB, 0xBF, 0x61], [0x61]), ([0xEF, 0xBB], nil), ([0xFF, 0xFE, 0x61, 0], nil), ([], []),
                ([0xEF, 0xBB, 0xBF, 0xEF, 0xBB, 0xBF], [0xEF, 0xBB, 0xBF]),
            ] as [([UInt8], [UInt8]?)] {
                try Store.write(bytes, to: path)
                #expect((try? Store.readText(path)) == expected)
            }
        }
    }

    @Test("a folder that cannot be made is told with the system's own reason")
    func folderReasons() throws {
        try withTemporaryFolder { folder in
            try Store.write([], to: folder + "/file")
            for (path, reason) in [
                ("\(folder)/file/a/b", ENOTDIR), ("/proc/self/a/b", ENOENT),
                (folder + "/" + String(repeating: "x", count: 300), ENAMETOOLONG),
            ] {
                do throws(Told) {
                    try Store.createFolder(path)
                    Issue.record("made \(path)")
                } catch {
                    #expect(error.error.cause == .system(reason), "\(error)")
                }
            }
            try Store.createFolder(folder + "/a//b/c/")
            try Store.createFolder(folder + "/a/b/c")
            #expect(Store.isFolder(folder + "/a/b/c"))
        }
    }

    @Test("what is written is read, whole and in parts", arguments: [0, 1, 4096, (1 << 20) + 7])
    func contents(count: Int) throws {
        let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        try withTemporaryFolder { folder in
            let path = folder + "/a"
            try Store.write(bytes, to: path)
            #expect(try Store.read(path) == bytes)
            try Store.replace(path, with: bytes + [9])
            #expect(try Store.read(path) == bytes + [9])
            #expect(Store.byteCount(of: path) == count + 1)
            let file = try File<Told>(path, .read)
            let tail = try file.bytes(at: count, count: 5)
            #expect(tail == [9])
            var pieces: [UInt8] = []
            try Store.forEachChunk(of: path) { pieces += $0 }
            #expect(pieces == bytes + [9])
            #expect(try names(folder) == ["a"])
        }
    }

    @Test("more bytes than a reader allows, folders and what is not there are errors")
    func refusals() throws {
        try withTemporaryFolder { folder in
            try Store.write([1, 2, 3], to: folder + "/a")
            #expect(try Store.read(folder + "/a", byteLimit: 3) == [1, 2, 3])
            let large = #expect(throws: Told.self) { try Store.read(folder + "/a", byteLimit: 2) }
            #expect(large?.error.cause == .tooLarge(byteCount: 3, limit: 2))
            #expect(throws: Told.self) { try Store.read(folder) }
            let missing = #expect(throws: Told.self) { try Store.read(folder + "/b") }
            #expect(missing?.error.isMissing == true && missing?.error.message.hasPrefix("cannot be read (") == true)
            #expect(throws: Told.self) { _ = try File<Told>(folder + "/a", .create(permissions: 0o600)) }
            #expect(Store.byteCount(of: folder) == nil)
        }
    }

    @Test("a replacement that fails leaves the old file and nothing else")
    func replacement() throws {
        try withTemporaryFolder { folder in
            try Store.write([1], to: folder + "/a")
            let failure = FileError(folder, .notAFile)
            #expect(throws: Told(failure)) {
                try Store.replace(folder + "/a") { (file) throws(Told) in
                    try file.write([2])
                    throw Told(failure)
                }
            }
            #expect(try names(folder) == ["a"])
            #expect(try Store.read(folder + "/a") == [1])
        }
    }

    #if os(Linux)
        @Test("files of /proc, which have no length, are read; a full disk is said to be full")
        func devices() throws {
            #expect(try !Store.read("/proc/self/statm").isEmpty)
            let full = #expect(throws: Told.self) { try Store.write([1], to: "/dev/full") }
            #expect(full?.error.isDiskFull == true && full?.error.remedy.hasPrefix("free space") == true)
        }

        @Test("a thread has its name and ends before its join")
        func thread() throws {
            let name = Mutex("")
            let thread = try OSThread(name: "a-name-of-more-than-15") {
                let text = (try? Store.read("/proc/thread-self/comm")) ?? []
                name.withLock { $0 = String(decoding: text, as: UTF8.self) }
            }
            thread.join()
            #expect(name.withLock { $0 } == "a-name-of-more-\n")
        }
    #endif
}
