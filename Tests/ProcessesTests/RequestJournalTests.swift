import Foundation
import LibC
import Protocol
import SafeTensors
import TestSupport
import Testing

@testable import Processes

/// Roles that end in the middle of a request, in processes of their own.
@Suite("Requests that end a role", .timeLimit(.minutes(1)))
struct RequestJournalTests {
    /// A message as it arrives.
    static func request(_ reason: String, client: String = "c") throws -> RequestFingerprint {
        let encoded = try EncodedMessage(
            StopRequest(drain: false, reason: reason), runID: nil, clientID: ClientID(rawValue: client),
            requestID: UInt64.random(in: 0 ... .max))
        return RequestFingerprint(of: try ReceivedMessage(frames: encoded.frames))
    }

    private func isRefused(_ request: RequestFingerprint, _ path: String) throws -> Bool {
        do {
            try RequestJournal(path: path).during(request, at: .work) {}
            return false
        } catch let failure as Failure {
            #expect(failure.code == .endedRole && failure.remedy?.contains(path) == true)
            return true
        }
    }

    @Test("a request is known by what it says, not by who sends it or when")
    func fingerprints() throws {
        #expect(try Self.request("a") == Self.request("a", client: "other"))
        #expect(try Self.request("a") != Self.request("b"))
        func score(_ value: UInt8) throws -> RequestFingerprint {
            let request = ScoreRequest(
                group: GroupID(epoch: 0, index: 0), prompt: "p",
                images: TensorPayload(uint8s: [0, 0, value], shape: [1, 1, 1, 3]))
            let encoded = try EncodedMessage(request, runID: nil, requestID: 1)
            return RequestFingerprint(of: try ReceivedMessage(frames: encoded.frames))
        }
        #expect(try score(1) == score(1) && score(1) != score(2))
    }

    @Test(
        "a request in whose middle a trap ended the process is refused by the next one; those before and after it are not"
    )
    func trap() async throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/requests"
        await #expect(processExitsWith: .failure) { [path = path as String] in
            let journal = try RequestJournal(path: path)
            try journal.during(try RequestJournalTests.request("harmless"), at: .work) {}
            try journal.during(try RequestJournalTests.request("on arrival"), at: .admission) {
                // Not this thread's work: a trap on another is the compute thread's.
                try journal.during(try RequestJournalTests.request("harmful"), at: .work) {
                    Thread.detachNewThread { fatalError("the middle") }
                    sleep(60)
                }
            }
        }
        #expect(try isRefused(try Self.request("harmful", client: "another"), path))
        for text in ["harmless", "on arrival", "never seen"] { #expect(try !isRefused(try Self.request(text), path)) }
    }

    @Test("a trap on arrival is the arrival's, whatever is computed meanwhile")
    func arrival() async throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/requests"
        await #expect(processExitsWith: .failure) { [path = path as String] in
            let journal = try RequestJournal(path: path)
            let (work, arrival) = (try RequestJournalTests.request("work"), try RequestJournalTests.request("arrival"))
            Thread.detachNewThread { _ = try? journal.during(work, at: .work) { sleep(60) } }
            sleep(1)
            try journal.during(arrival, at: .admission) { abort() }
        }
        #expect(try isRefused(try Self.request("arrival"), path))
        #expect(try !isRefused(try Self.request("work"), path))
    }

    @Test("a process that is killed blames nobody, and neither does one that dies between two requests")
    func killed() async throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/requests"
        await #expect(processExitsWith: .signal(SIGKILL)) { [path = path as String] in
            let journal = try RequestJournal(path: path)
            try journal.during(try RequestJournalTests.request("long"), at: .work) { _ = kill(getpid(), SIGKILL) }
        }
        await #expect(processExitsWith: .failure) { [path = path as String] in
            let journal = try RequestJournal(path: path)
            try journal.during(try RequestJournalTests.request("long"), at: .work) {}
            abort()
        }
        #expect(RequestJournal.byteCount(of: path) == 0)
        #expect(try !isRefused(try Self.request("long"), path))
    }
}
