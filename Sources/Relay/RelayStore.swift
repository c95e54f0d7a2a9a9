import Protocol
import Runtime
import SafeTensors
import Transport

/// What a relay keeps of the weights, and what it is fetching.
///
/// Whatever is asked for is fetched from the learner once, however many ask for it meanwhile. Kept are the pieces of the last
/// two manifests that passed (workers may still be busy with the one before), within a bound on their bytes; beyond it those go
/// first that were asked for longest ago.
actor RelayStore {
    /// Longest wait for the learner.
    static let deadline = Duration.seconds(30)

    /// What it did since it was started.
    struct Statistics: Sendable, Equatable {
        /// Bytes that came from the learner, and how many times it was asked.
        var fetchedByteCount = 0
        var fetchCount = 0
        /// Bytes that were given to workers, and how many times they asked.
        var servedByteCount = 0
        var servedCount = 0
        /// Why the learner's last answer was none; nil after a good one. That a version is not the current one is a good answer.
        var failure: String?
    }

    private typealias Flight = Task<[PieceDigest: SharedBytes], any Error>

    private struct Kept {
        var bytes: SharedBytes
        var lastUse: Int
    }

    private(set) var statistics = Statistics()
    /// Bytes of everything kept.
    private(set) var keptByteCount = 0
    private let learner: Client
    private let maximumByteCount: Int
    private var kept: [PieceDigest: Kept] = [:]
    private var flights: [PieceDigest: Flight] = [:]
    /// What the last two manifests name, themselves included; the newer one last.
    private var versions: [(manifest: PieceDigest, names: Set<PieceDigest>)] = []
    private var useCount = 0

    init(learner: Client, maximumByteCount: Int) {
        self.learner = learner
        self.maximumByteCount = maximumByteCount
    }

    /// A manifest's text.
    ///
    /// - Throws: `Failure` as the learner answered or `wrongBytes`, `TransportError`, `WireError` for one that cannot be read.
    func manifest(_ digest: PieceDigest) async throws -> SharedBytes {
        let text: SharedBytes
        if let known = known(digest) {
            text = known
        } else {
            let flight =
                flights[digest]
                ?? begin([digest]) { [learner] in
                    let text = try await learner.request(ManifestRequest(manifest: digest), deadline: Self.deadline)
                        .text
                    try WeightsDownload.check(text, digest, of: learner)
                    _ = try WeightsManifest(text: text)
                    return [digest: text]
                }
            guard let arrived = try await flight.value[digest] else { throw Self.incomplete }
            text = arrived
            try remember(digest, WeightsManifest(text: text))
        }
        count(text.count)
        return text
    }

    /// Pieces, in the order in which they are asked for.
    ///
    /// - Throws: as `manifest`; `limitExceeded` when the pieces are more than one answer may have.
    func pieces(_ request: PiecesRequest) async throws -> [SharedBytes] {
        let missing = request.pieces.filter { kept[$0] == nil && flights[$0] == nil }
        if !missing.isEmpty {
            let upstream = PiecesRequest(pieces: missing)
            _ = begin(missing) { [learner] in
                let reply = try await learner.request(upstream, deadline: Self.deadline)
                let pieces = try WeightsDownload.verified(reply.pieces, upstream, of: learner)
                return Dictionary(pieces) { first, _ in first }
            }
        }
        // What is here and what is on its way now: while one waits, others come and go.
        let sources = request.pieces.map { (digest: $0, bytes: known($0), flight: flights[$0]) }
        var found: [SharedBytes] = []
        var byteCount = 0
        for source in sources {
            var bytes = source.bytes
            if bytes == nil { bytes = try await source.flight?.value[source.digest] }
            guard let bytes else { throw Self.incomplete }
            found.append(bytes)
            byteCount += bytes.count
        }
        guard found.count == 1 || byteCount <= PiecesRequest.maximumByteCount else {
            throw WireError(
                .limitExceeded, "\(byteCount) bytes of pieces are asked for together", remedy: "ask for fewer")
        }
        count(byteCount)
        return found
    }

    private static let incomplete = Failure(
        code: "internal", message: "a piece did not come with those it was asked with")

    private func count(_ byteCount: Int) {
        statistics.servedCount += 1
        statistics.servedByteCount += byteCount
    }

    private func known(_ digest: PieceDigest) -> SharedBytes? {
        useCount += 1
        kept[digest]?.lastUse = useCount
        return kept[digest]?.bytes
    }

    /// Fetches what nobody else is fetching; the check of what arrives does not occupy the actor.
    private func begin(
        _ digests: [PieceDigest], _ fetch: @escaping @Sendable () async throws -> [PieceDigest: SharedBytes]
    ) -> Flight {
        statistics.fetchCount += 1
        let flight = Flight {
            do {
                let arrived = try await Task.detached { try await fetch() }.value
                land(digests, arrived)
                return arrived
            } catch {
                fail(digests, error)
                throw error
            }
        }
        for digest in digests { flights[digest] = flight }
        return flight
    }

    private func land(_ digests: [PieceDigest], _ arrived: [PieceDigest: SharedBytes]) {
        statistics.failure = nil
        for (digest, bytes) in arrived {
            statistics.fetchedByteCount += bytes.count
            useCount += 1
            // One of several of a message would keep all of it.
            let own = arrived.count > 1 ? bytes.withUnsafeBytes { SharedBytes(copying: $0) } : bytes
            kept[digest] = Kept(bytes: own, lastUse: useCount)
            keptByteCount += bytes.count
        }
        for digest in digests { flights[digest] = nil }
        while keptByteCount > maximumByteCount, let oldest = kept.min(by: { $0.value.lastUse < $1.value.lastUse }) {
            forget(oldest.key)
        }
    }

    private func fail(_ digests: [PieceDigest], _ error: any Error) {
        statistics.failure = (error as? Failure)?.code == "staleVersion" ? nil : "\(error)"
        for digest in digests { flights[digest] = nil }
    }

    /// Lets go of what neither this version has nor the one before it.
    private func remember(_ digest: PieceDigest, _ manifest: WeightsManifest) {
        guard !versions.contains(where: { $0.manifest == digest }) else { return }
        versions.append((digest, Set(manifest.pieces.map(\.digest) + [digest])))
        if versions.count > 2 { versions.removeFirst() }
        for name in kept.keys where !versions.contains(where: { $0.names.contains(name) }) { forget(name) }
    }

    private func forget(_ digest: PieceDigest) {
        keptByteCount -= kept.removeValue(forKey: digest)?.bytes.count ?? 0
    }
}
