import Foundation
import Protocol
import Testing

@testable import Transport

private let docs = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "docs")

/// A Python with pyzmq and safetensors: `ADVGRPO_PYTHON`, else `python3`; nil when it lacks them.
private let python: String? = {
    let candidate = ProcessInfo.processInfo.environment["ADVGRPO_PYTHON"] ?? "python3"
    return run(candidate, ["-c", "import zmq, safetensors.numpy"])?.status == 0 ? candidate : nil
}()

private func run(_ program: String, _ arguments: [String]) -> (status: Int32, output: String)? {
    let process = Process()
    let output = Pipe()
    process.executableURL = URL(filePath: "/usr/bin/env")
    process.arguments = [program] + arguments
    process.standardOutput = output
    process.standardError = FileHandle.nullDevice
    guard (try? process.run()) != nil else { return nil }
    let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    return (process.terminationStatus, text)
}

@Suite("The documented Python client", .serialized, .timeLimit(.minutes(2)))
struct PythonTests {
    @Test("the page shows the file that is run")
    func documented() throws {
        let page = try String(contentsOf: docs.appending(path: "protocol.md"), encoding: .utf8)
        for name in ["health.py", "reward.py"] {
            let example = try String(contentsOf: docs.appending(path: "examples/" + name), encoding: .utf8)
            #expect(page.contains("```python\n\(example)```\n"), "\(name)")
        }
    }

    @Test("it asks a server for its health", .enabled(if: python != nil, "needs pyzmq and safetensors"))
    func health() async throws {
        let bench = try Bench(.tcp)
        let example = docs.appending(path: "examples/health.py").path
        let result = run(try #require(python), [example, bench.server.endpoint.description])
        #expect(result?.status == 0)
        let reply = try JSONDecoder().decode(Health.self, from: Data((result?.output ?? "").utf8))
        #expect(reply == TransportTests.health())
        await bench.end()
    }
}
