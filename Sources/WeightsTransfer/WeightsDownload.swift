public import Logging
public import Protocol
public import SafeTensors
public import Transport

/// Asks for manifests and pieces, a relay first if there is one, and lets nothing through that is not what its digest says.
///
/// Digests of pieces tell damage from what is right, not forgery: whether all of them together are the version is known by
/// its `WeightsDigest` alone, and whoever has taken that says so (`accept`, `reject`).
///
/// Only a bounded number of requests is on its way at a time (credit), so nobody sends what has no room yet, and a server's
/// other peers get their turn between two pieces. Credit grows while pieces come quickly and shrinks when they do not.
/// All of this blocks the calling thread.
///
/// A relay is no more than a shortcut. One that has not answered within `relayDeadline`, or answers with a failure, is left
/// for `relayPause`; one that sends wrong bytes, or forged ones, is not asked again. What it owes is asked of the learner.
public final class WeightsDownload {
    /// Longest wait for a relay's answer to one request.
    public static let relayDeadline = Duration.seconds(10)
    /// How long a relay that failed is not asked.
    public static let relayPause = Duration.seconds(60)
    /// Longest wait for the learner's answer to one request.
    public static let learnerDeadline = Duration.seconds(60)
    /// Without a lost connection a piece is not asked for again sooner: it is large, and on its way.
    private static let resendInterval = Duration.seconds(20)
    /// Requests on their way at a time, and the time within which each should be answered.
    private static let credits = 2...8
    private static let creditTime = Duration.seconds(1)

    /// What came from where.
    public struct Statistics: Sendable, Equatable {
        /// Bytes of pieces that the learner sent.
        public var learnerByteCount = 0
        /// Bytes of pieces that the relay sent.
        public var relayByteCount = 0
        /// Times the relay was left.
        public var relayFailureCount = 0
    }

    /// What came so far.
    public private(set) var statistics = Statistics()
    private let learner: Client
    private let relay: Client?
    private let logger: Logger
    private var relayIsLeftUntil = ContinuousClock.now
    private var relayIsRefused = false
    /// Whether the relay sent any piece since the last version that was accepted.
    private var relayIsOnTrust = false

    /// Asks these servers.
    ///
    /// - Parameters:
    ///   - learner: a client of the learner.
    ///   - relay: asked first, if there is one.
    ///   - logger: where it says what it waits for.
    public init(learner: Client, relay: Client? = nil, logger: Logger) {
        self.learner = learner
        self.relay = relay
        self.logger = logger
    }

    /// A manifest.
    ///
    /// - Throws: `Failure` (`staleVersion` when the learner publishes another by now, `wrongBytes`), `TransportError`, `WireError`.
    public func manifest(_ digest: ManifestDigest) throws -> WeightsManifest {
        func ask(_ client: Client, _ deadline: Duration) throws -> WeightsManifest {
            let text = try client.requestBlocking(ManifestRequest(manifest: digest), deadline: deadline).text
            try Self.check(text, ManifestDigest(of: text), is: digest, of: client)
            return try WeightsManifest(text: text)
        }
        if let relay = usableRelay {
            do { return try ask(relay, Self.relayDeadline) } catch { leave(relay, error) }
        }
        return try ask(learner, Self.learnerDeadline)
    }

    /// Pulls pieces and hands over each, once, as soon as it is known to be right. After an error those that were handed over
    /// need not be asked for again.
    ///
    /// - Throws: as `manifest`.
    public func pull(_ pieces: [WeightsManifest.Piece], _ take: (PieceDigest, SharedBytes) -> Void) throws {
        struct Flight {
            var batch: [WeightsManifest.Piece]
            var begin: ContinuousClock.Instant
            var reply: PendingReply<PiecesRequest>
        }
        var batches = ArraySlice(Self.batches(pieces))
        var flights: [Flight] = []
        var credit = Self.credits.lowerBound
        var relay = usableRelay
        while true {
            while flights.count < credit, let batch = batches.popFirst() {
                let reply = try (relay ?? learner).begin(
                    PiecesRequest(pieces: batch.map(\.digest)),
                    deadline: relay == nil ? Self.learnerDeadline : Self.relayDeadline,
                    resendInterval: Self.resendInterval)
                flights.append(Flight(batch: batch, begin: .now, reply: reply))
            }
            guard let first = flights.first else { return }
            do {
                let server = relay ?? learner
                let arrived = try Self.verified(first.reply.wait().pieces, first.batch.map(\.digest), of: server)
                for ((digest, bytes), piece) in zip(arrived, first.batch) where bytes.count != piece.byteCount {
                    throw Self.wrong("\(bytes.count) bytes as piece \(digest) of \(piece.byteCount)", server)
                }
                for (digest, bytes) in arrived {
                    if relay == nil {
                        statistics.learnerByteCount += bytes.count
                    } else {
                        statistics.relayByteCount += bytes.count
                        relayIsOnTrust = true
                    }
                    take(digest, bytes)
                }
            } catch {
                guard let left = relay else { throw error }
                leave(left, error)
                relay = nil
                batches = flights.map(\.batch) + batches
                flights = []
                continue
            }
            flights.removeFirst()
            let isQuick = .now - first.begin < Self.creditTime
            credit = isQuick ? min(credit + 1, Self.credits.upperBound) : max(credit / 2, Self.credits.lowerBound)
        }
    }

    /// Pieces in requests of as many bytes as one may ask for.
    private static func batches(_ pieces: [WeightsManifest.Piece]) -> [[WeightsManifest.Piece]] {
        var batches: [[WeightsManifest.Piece]] = []
        var byteCount = 0
        for piece in pieces {
            if let last = batches.indices.last, byteCount + piece.byteCount <= PiecesRequest.maximumByteCount,
                batches[last].count < PiecesRequest.maximumCount
            {
                batches[last].append(piece)
                byteCount += piece.byteCount
            } else {
                batches.append([piece])
                byteCount = piece.byteCount
            }
        }
        return batches
    }

    /// Pieces that have the digests they were asked for by.
    ///
    /// - Throws: `wrongBytes`, naming who sent them.
    public static func verified(
        _ pieces: [SharedBytes], _ digests: [PieceDigest], of server: Client
    ) throws(Failure) -> [(PieceDigest, SharedBytes)] {
        guard pieces.count == digests.count else {
            throw wrong("\(pieces.count) pieces where \(digests.count) were asked for", server)
        }
        for (digest, bytes) in zip(digests, pieces) {
            try check(bytes, PieceDigest(of: bytes), is: digest, of: server)
        }
        return Array(zip(digests, pieces))
    }

    /// Whether bytes have the digest by which they were asked for.
    ///
    /// - Throws: `wrongBytes`, naming who sent them.
    public static func check<Digest: DigestText>(
        _ bytes: SharedBytes, _ actual: Digest, is digest: Digest, of server: Client
    ) throws(Failure) {
        guard actual == digest else { throw wrong("\(bytes.count) bytes of digest \(actual) as \(digest)", server) }
    }

    /// To be called when what arrived has been found to be its version: nothing of it is on trust any more.
    public func accept() { relayIsOnTrust = false }

    /// To be called when what arrived is not its version, although every piece was what its digest says; all of it has to be
    /// forgotten. A relay that sent any of it is not asked again, and it can be pulled once more, from the learner.
    ///
    /// - Throws: `wrongBytes`, naming the learner, when it was the learner that sent all of it.
    public func reject(_ actual: WeightsDigest, insteadOf digest: WeightsDigest) throws(Failure) {
        let what = "weights of digest \(actual) as \(digest)"
        guard let relay, relayIsOnTrust else { throw Self.wrong(what, learner) }
        relayIsOnTrust = false
        leave(relay, Self.wrong(what, relay))
    }

    private static func wrong(_ what: String, _ server: Client) -> Failure {
        Failure(
            code: .wrongBytes, message: "\(server.endpoint) sent \(what)",
            remedy: "look after that machine's memory and network, or who runs it")
    }

    private var usableRelay: Client? { relayIsRefused || .now < relayIsLeftUntil ? nil : relay }

    private func leave(_ relay: Client, _ error: any Error) {
        statistics.relayFailureCount += 1
        relayIsLeftUntil = .now + Self.relayPause
        relayIsRefused = (error as? Failure)?.code == .wrongBytes || error is WireError
        logger.warning(
            "weights are asked of the learner, relay \(relay.endpoint) \(relayIsRefused ? "is not asked again" : "failed"): \(error)"
        )
    }
}
