internal import Dispatch
public import Protocol
public import SafeTensors
internal import Synchronization

/// One version of the weights as it is given out: its manifest, and its pieces by their digests.
///
/// All bytes lie in one run of memory in the order of the manifest, so that pieces that follow each other are sent from where
/// they are, however many are asked for together and by however many workers.
public struct PublishedWeights: Sendable {
    /// Length of pieces: a few keep a fast link busy, and one does not keep a slow link from heartbeats for long.
    public static let pieceByteCount = 4 << 20

    /// The version.
    public let version: PolicyVersion
    /// Digest of the weights in their canonical form, which whoever executes them quotes.
    public let digest: WeightsDigest
    /// What the weights consist of.
    public let manifest: WeightsManifest
    /// SHA-256 of the manifest's text, by which it is asked for.
    public let manifestDigest: ManifestDigest
    /// What a lease says of it.
    public var reference: WeightsReference {
        WeightsReference(version: version, digest: digest, manifest: manifestDigest)
    }
    private let text: SharedBytes
    private let pieces: [PieceDigest: SharedBytes]

    /// Divides the bytes of a version.
    ///
    /// - Parameters:
    ///   - version: of the policy.
    ///   - digest: of all tensors.
    ///   - tensors: in the order of their names' UTF-8 bytes.
    ///   - bytes: of all tensors, one behind the other.
    ///   - pieceByteCount: 1 to `WeightsManifest.maximumPieceByteCount`.
    /// - Throws: `WireError` for more than a manifest can describe.
    /// - Precondition: there are as many bytes as the shapes ask for.
    public init(
        version: PolicyVersion, digest: WeightsDigest,
        tensors: [(name: String, dtype: SafeTensorsDataType, shape: [Int])], bytes: SharedBytes,
        pieceByteCount: Int = PublishedWeights.pieceByteCount
    ) throws(WireError) {
        var slices: [SharedBytes] = []
        var offset = 0
        let counts = tensors.map { tensor in
            let end = offset + (tensor.dtype.byteCount(shape: tensor.shape) ?? 0)
            let starts = stride(from: offset, to: end, by: pieceByteCount)
            slices += starts.map { bytes[$0..<min($0 + pieceByteCount, end)] }
            offset = end
            return slices.count
        }
        precondition(offset == bytes.count, "PublishedWeights: \(bytes.count) bytes for tensors of \(offset)")
        let digests = Self.digests(of: slices)
        var first = 0
        let described = zip(tensors, counts).map { tensor, end in
            defer { first = end }
            return WeightsManifest.Tensor(
                name: tensor.name, dtype: tensor.dtype, shape: tensor.shape, pieces: Array(digests[first..<end]))
        }
        manifest = try WeightsManifest(pieceByteCount: pieceByteCount, tensors: described)
        text = manifest.text
        manifestDigest = ManifestDigest(of: text)
        pieces = Dictionary(zip(digests, slices)) { first, _ in first }
        self.version = version
        self.digest = digest
    }

    /// Digests on all processors: the learner's are idle while a version is published, and everybody waits for it.
    private static func digests(of slices: [SharedBytes]) -> [PieceDigest] {
        let digests = Mutex([PieceDigest?](repeating: nil, count: slices.count))
        DispatchQueue.concurrentPerform(iterations: slices.count) { index in
            let digest = PieceDigest(of: slices[index])
            digests.withLock { $0[index] = digest }
        }
        return digests.withLock { $0.compactMap(\.self) }
    }

    /// The manifest for whoever asks for this one.
    ///
    /// - Throws: `staleVersion`.
    public func answer(_ request: ManifestRequest) throws(Failure) -> Manifest {
        guard request.manifest == manifestDigest else { throw stale("manifest \(request.manifest)") }
        return Manifest(text: text)
    }

    /// The pieces that somebody asks for; nothing is copied.
    ///
    /// - Throws: `staleVersion` when one is not of this version, `limitExceeded`.
    public func answer(_ request: PiecesRequest) throws(Failure) -> Pieces {
        var found: [SharedBytes] = []
        var byteCount = 0
        for digest in request.pieces {
            guard let piece = pieces[digest] else { throw stale("piece \(digest)") }
            found.append(piece)
            byteCount += piece.count
        }
        guard found.count == 1 || byteCount <= PiecesRequest.maximumByteCount else {
            throw Failure(
                WireError(
                    .limitExceeded, "\(byteCount) bytes of pieces are asked for together", remedy: "ask for fewer"))
        }
        return Pieces(found)
    }

    private func stale(_ what: String) -> Failure {
        Failure(
            code: .staleVersion, message: "\(what) is not of the current policy version, \(version)",
            remedy: "ask for a lease again")
    }
}
