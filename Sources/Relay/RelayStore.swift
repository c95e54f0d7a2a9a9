import Protocol
import SafeTensors
import Transport
import WeightsTransfer

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

    /// What is asked for.
    private enum Name: Hashable {
        case manifest(ManifestDigest)
        case piece(PieceDigest)
    }

    private typealias Flight = Task<[Name: SharedBytes], any Error>

    private struct Kept {
        var bytes: SharedBytes
        var lastUse: Int
    }

    private(set) var statistics = Statistics()
    /// Bytes of everything kept.
    private(set) var keptByteCount = 0
    private let learner: Client
    private let maximumByteCount: Int
    private var kept: [Name: Kept] = [:]
    private var flights: [Name: Flight] = [:]
    /// What the last two manifests name, themselves included; the newer one last.
    private var versions: [(manifest: ManifestDigest, names: Set<Name>)] = []
    private var useCount = 0

    init(learner: Client, maximumByteCount: Int) {
        self.learner = learner
        self.maximumByteCount = maximumByteCount
    }

    /// A manifest's text.
    ///
    /// - Throws: `Failure` as the learner answered or `wrongBytes`, `TransportError`, `WireError` for one that cannot be read.
    func manifest(_ digest: ManifestDigest) async throws -> SharedBytes {
        let name = Name.manifest(digest)
        let text: SharedBytes
        if let known = known(name) {
            text = known
        } else {
            let flight =
                flights[name]
                ?? begin([name]) { [learner] in
                    let text = try await learner.request(ManifestRequest(manifest: digest), deadline: Self.deadline)
                        .text
                    try WeightsDownload.check(text, ManifestDigest(of: text), is: digest, of: learner)
                    _ = try WeightsManifest(text: text)
                    return [name: text]
                }
            guard let arrived = try await flight.value[name] else { throw Self.incomplete }
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
        let names = request.pieces.map { Name.piece($0) }
        let missing = request.pieces.filter { kept[.piece($0)] == nil && flights[.piece($0)] == nil }
        if !missing.isEmpty {
            _ = begin(missing.map { .piece($0) }) { [learner] in
                let reply = try await learner.request(PiecesRequest(pieces: missing), deadline: Self.deadline)
                let pieces = try WeightsDownload.verified(reply.pieces, missing, of: learner)
                return Dictionary(pieces.map { (.piece($0), $1) }) { first, _ in first }
            }
        }
        // What is here and what is on its way now: while one waits, others come and go.
        let sources = names.map { (name: $0, bytes: known($0), flight: flights[$0]) }
        var found: [SharedBytes] = []
        var byteCount = 0
        for source in sources {
            var bytes = source.bytes
            if bytes == nil { bytes = try await source.flight?.value[source.name] }
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
        code: .internal, message: "a piece did not come with those it was asked with")

    private func count(_ byteCount: Int) {
        statistics.servedCount += 1
        statistics.servedByteCount += byteCount
    }

    private func known(_ name: Name) -> SharedBytes? {
        useCount += 1
        kept[name]?.lastUse = useCount
        return kept[name]?.bytes
    }

    /// Fetches what nobody else is fetching; the check of what arrives does not occupy the actor.
    private func begin(
        _ names: [Name], _ fetch: @escaping @Sendable () async throws -> [Name: SharedBytes]
    ) -> Flight {
        statistics.fetchCount += 1
        let flight = Flight {
            do {
                let arrived = try await Task.detached { try await fetch() }.value
                land(names, arrived)
                return arrived
            } catch {
                fail(names, error)
                throw error
            }
        }
        for name in names { flights[name] = flight }
        return flight
    }

    private func land(_ names: [Name], _ arrived: [Name: SharedBytes]) {
        statistics.failure = nil
        for (name, bytes) in arrived {
            statistics.fetchedByteCount += bytes.count
            useCount += 1
            // One of several of a message would keep all of it.
            let own = arrived.count > 1 ? bytes.withUnsafeBytes { SharedBytes(copying: $0) } : bytes
            kept[name] = Kept(bytes: own, lastUse: useCount)
            keptByteCount += bytes.count
        }
        for name in names { flights[name] = nil }
        while keptByteCount > maximumByteCount, let oldest = kept.min(by: { $0.value.lastUse < $1.value.lastUse }) {
            forget(oldest.key)
        }
    }

    private func fail(_ names: [Name], _ error: any Error) {
        statistics.failure = (error as? Failure)?.code == .staleVersion ? nil : "\(error)"
        for name in names { flights[name] = nil }
    }

    /// Lets go of what neither this version has nor the one before it.
    private func remember(_ digest: ManifestDigest, _ manifest: WeightsManifest) {
        guard !versions.contains(where: { $0.manifest == digest }) else { return }
        versions.append((digest, Set(manifest.pieces.map { .piece($0.digest) } + [.manifest(digest)])))
        if versions.count > 2 { versions.removeFirst() }
        for name in kept.keys where !versions.contains(where: { $0.names.contains(name) }) { forget(name) }
    }

    private func forget(_ name: Name) {
        keptByteCount -= kept.removeValue(forKey: name)?.bytes.count ?? 0
    }
}
