import Protocol
import Testing
import Transport

@testable import RewardServer

@Suite(.timeLimit(.minutes(1))) struct JobQueueTests {
    @Test("peers take turns, each with its oldest request; who comes back goes to the end")
    func turns() async throws {
        let loop = try SocketLoop()
        let queue = JobQueue()
        let server = try Server(Endpoint("tcp://127.0.0.1:0"), on: loop) { request in
            queue.add(
                Job(request: request) { _ in throw Failure(code: FailureCode(rawValue: "test"), message: "not run") })
        }
        let peers = try (0..<3).map { _ in try Client(server.endpoint, on: loop) }
        #expect(queue.next(limit: .milliseconds(10)) == nil)

        // The first peer asks three times before the others ask once: a piece's number tells its requests apart.
        let answers = await withTaskGroup(of: Void.self) { group in
            for (number, peer) in [0, 0, 0, 1, 2, 2].enumerated() {
                let client = peers[peer]
                group.addTask {
                    _ = try? await client.request(
                        DiscriminatorStateRequest(version: DiscriminatorVersion(rawValue: 0), chunkIndex: number),
                        deadline: .seconds(60))
                }
                while queue.count <= number { try? await Task.sleep(for: .milliseconds(1)) }
            }
            var order: [Int] = []
            while let request = queue.next(limit: .milliseconds(10))?.request {
                order.append((try? request.decoded(as: DiscriminatorStateRequest.self).chunkIndex) ?? -1)
                request.fail(Failure(code: FailureCode(rawValue: "test"), message: "seen"))
            }
            return order
        }
        #expect(answers == [0, 3, 4, 1, 5, 2])
        #expect(queue.count == 0)
        await loop.shutdown()
    }
}
