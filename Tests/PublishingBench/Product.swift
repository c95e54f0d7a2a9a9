import Foundation
import Logging
import Processes
import Protocol
import SafeTensors
import Transport
import WeightsTransfer

/// The learner's side, without a learner: its server, and the answers that `LearnerHandlers` gives.
enum ProductSender {
    /// - Returns: seconds until the last receiver had everything.
    static func send(_ weights: PublishedWeights) throws -> Double {
        let loop = try SocketLoop()
        defer { loop.shutdownBlocking() }
        let server = try Server(Endpoint("tcp://127.0.0.1:0"), on: loop) { request in
            do {
                if request.kind == .manifestRequest {
                    request.reply(try weights.answer(try request.decoded(as: ManifestRequest.self)), isKept: false)
                } else {
                    request.reply(try weights.answer(try request.decoded(as: PiecesRequest.self)), isKept: false)
                }
            } catch {
                request.fail(Failure(code: FailureCode(rawValue: "bench"), message: "\(error)"))
            }
        }
        let receivers = try Receivers(
            ["receive-product", server.endpoint.description, weights.manifestDigest.hexadecimal])
        receivers.expect("ready")
        let begin = ContinuousClock.now
        receivers.say("go")
        receivers.expect("done \(weights.manifest.byteCount)")
        let seconds = (ContinuousClock.now - begin).seconds
        receivers.end()
        return seconds
    }
}

/// A worker's side: pulls, checks and drops.
enum ProductReceiver {
    static func run(endpoint: String, manifest text: String) throws {
        guard let digest = ManifestDigest(hexadecimal: text) else { fatalError("\(text) is no digest") }
        let loop = try SocketLoop()
        let client = try Client(Endpoint(endpoint), on: loop)
        let download = WeightsDownload(learner: client, logger: Logger(label: "bench"))
        // Connected; that costs the bare ones nothing either.
        _ = try download.manifest(digest)
        say("ready")
        _ = readLine()
        var byteCount = 0
        try download.pull(download.manifest(digest).pieces) { _, bytes in byteCount += bytes.count }
        say("done \(byteCount)")
        loop.shutdownBlocking()
    }

    private static func say(_ word: String) { FileHandle.standardOutput.write(Data((word + "\n").utf8)) }
}
