import Foundation
import Synchronization
import TestSupport
import Testing

@testable import Platform

@Suite("FileLock", .timeLimit(.minutes(1)))
struct FileLockTests {
    @Test("a lock keeps others out, names its holder, and leaves nothing behind")
    func exclusive() throws {
        try withTemporaryFolder { folder in
            let path = folder + "/a.lock"
            do {
                let lock = try FileLock(path)
                #expect(lock != nil)
                #expect(try FileLock(path) == nil)
                #expect(FileLock.holder(of: path) == getpid())
                withExtendedLifetime(lock) {}
            }
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder).isEmpty)
            // What a killed process leaves.
            try Data("1".utf8).write(to: URL(fileURLWithPath: path))
            #expect(try FileLock(path) != nil)
        }
    }

    @Test("whoever takes and leaves it at the same time, one is inside")
    func removal() throws {
        try withTemporaryFolder { folder in
            let inside = Atomic(0)
            let most = Atomic(0)
            let count = Atomic(0)
            DispatchQueue.concurrentPerform(iterations: 8) { index in
                for _ in 0..<200 {
                    let lock =
                        try? index.isMultiple(of: 2)
                        ? FileLock(waitingFor: folder + "/a.lock") : FileLock(folder + "/a.lock")
                    guard let lock else { continue }
                    most.max(inside.add(1, ordering: .relaxed).newValue, ordering: .relaxed)
                    count.add(1, ordering: .relaxed)
                    inside.subtract(1, ordering: .relaxed)
                    withExtendedLifetime(lock) {}
                }
            }
            #expect(most.load(ordering: .relaxed) == 1)
            #expect(count.load(ordering: .relaxed) >= 4 * 200)
            let left = try FileManager.default.contentsOfDirectory(atPath: folder)
            #expect(left.isEmpty)
        }
    }

    @Test("another file of the same name is not removed")
    func replaced() throws {
        try withTemporaryFolder { folder in
            let path = folder + "/a.lock"
            let lock = try FileLock(path)
            try FileManager.default.removeItem(atPath: path)
            let other = try FileLock(path)
            withExtendedLifetime(lock) {}
            #expect(other != nil && FileLock.holder(of: path) == getpid())
        }
    }

    @Test("a lock that cannot be made says which and why")
    func failure() {
        let error = #expect(throws: FileError.self) { try FileLock("/nowhere/a.lock") }
        #expect(error?.path == "/nowhere/a.lock" && error?.isMissing == true && error?.isWriting == true)
    }
}
