public import Processes
public import Protocol
public import Transport
public import WeightsTransfer

/// A publisher's socket, and what was asked of it.
public final class Publisher: Sendable {
    /// What it gives out and gave out.
    public struct Record {
        /// The current version.
        public var weights: PublishedWeights
        /// How many manifests were given out.
        public var manifestCount = 0
        /// How often each piece was given out.
        public var given: [PieceDigest: Int] = [:]
        /// What the answers are changed by.
        public var spoil: (@Sendable (PiecesRequest, Pieces) throws -> Pieces)?

        /// How many pieces were given out.
        public var givenCount: Int { given.values.reduce(0, +) }
    }

    public let loop: SocketLoop
    public let server: Server
    /// Shared with its socket.
    public let record: SharedState<Record>

    /// On a loopback port of the system's choice.
    public init(_ weights: PublishedWeights) throws {
        loop = try SocketLoop()
        let record = SharedState(Record(weights: weights))
        self.record = record
        server = try Server(Endpoint("tcp://127.0.0.1:0"), on: loop) { request in
            do {
                switch request.kind {
                case .manifestRequest:
                    let manifest = try request.decoded(as: ManifestRequest.self)
                    request.reply(
                        try record.withLock {
                            $0.manifestCount += 1
                            return try $0.weights.answer(manifest)
                        }, isKept: false)
                case .piecesRequest:
                    let wanted = try request.decoded(as: PiecesRequest.self)
                    let pieces = try record.withLock { record in
                        let pieces = try record.weights.answer(wanted)
                        for digest in wanted.pieces { record.given[digest, default: 0] += 1 }
                        return try record.spoil?(wanted, pieces) ?? pieces
                    }
                    request.reply(pieces, isKept: false)
                default: request.reply(StopAcknowledgement())
                }
            } catch let failure as Failure {
                request.fail(failure)
            } catch {
                request.fail(Failure(code: FailureCode(rawValue: "test"), message: "\(error)"))
            }
        }
    }

    /// Where it listens.
    public var port: Int {
        if case .tcp(_, let port) = server.endpoint.address { return Int(port) }
        return 0
    }

    /// Closes its socket.
    public func end() { loop.shutdownBlocking() }
}
