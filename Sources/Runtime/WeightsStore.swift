public import NeuralNetworks
public import Protocol
import SafeTensors
public import TensorCore

/// The weights that a worker has received: of the version it runs, and of one on its way.
///
/// Pieces that two versions have in common are not asked for again, and neither are those that had arrived when a connection
/// was lost, whatever the next version is.
public final class WeightsStore {
    /// Versions of up to this many bytes stay here while they are run. Larger ones, which only come from training all weights,
    /// change in every piece: to keep them would cost as much memory as they have and save nothing.
    public static let keptByteCount = 1 << 30

    private let download: WeightsDownload
    private var pieces: [PieceDigest: SharedBytes] = [:]

    /// Fills itself from `download`.
    public init(_ download: WeightsDownload) { self.download = download }

    /// Forgets everything.
    public func forget() { pieces = [:] }

    /// The parameters that a manifest describes; pulls what is missing. Blocks the calling thread.
    ///
    /// - Throws: as `WeightsDownload.manifest`; what has arrived by then stays.
    public func parameters(_ digest: PieceDigest, on engine: any Engine) throws -> Parameters {
        let manifest = try download.manifest(digest)
        let named = Set(manifest.pieces.map(\.digest))
        pieces = pieces.filter { named.contains($0.key) }
        try download.pull(manifest.pieces.filter { pieces[$0.digest] == nil }) { digest, bytes in
            // Small ones came with others in one message, and would keep all of it.
            pieces[digest] =
                bytes.count < manifest.pieceByteCount ? bytes.withUnsafeBytes { SharedBytes(copying: $0) } : bytes
        }
        guard manifest.byteCount > Self.keptByteCount else {
            return try Self.parameters(manifest, on: engine) { pieces[$0] }
        }
        var uses = Dictionary(manifest.tensors.flatMap(\.pieces).map { ($0, 1) }, uniquingKeysWith: +)
        return try Self.parameters(manifest, on: engine) { digest in
            uses[digest, default: 1] -= 1
            return uses[digest] == 0 ? pieces.removeValue(forKey: digest) : pieces[digest]
        }
    }

    private static func parameters(
        _ manifest: WeightsManifest, on engine: any Engine, _ piece: (PieceDigest) -> SharedBytes?
    ) throws -> Parameters {
        var tensors: [String: Tensor] = [:]
        for tensor in manifest.tensors {
            let bytes = SharedBytes.joined(tensor.pieces.compactMap(piece))
            guard bytes.count == tensor.dtype.byteCount(shape: tensor.shape) else {
                throw WireError(
                    .invalidValue, "the pieces of \"\(tensor.name.prefix(80))\" have \(bytes.count) bytes together",
                    remedy: "the manifest is wrong: ask for a lease again")
            }
            tensors[tensor.name] = try TensorPayload(dtype: tensor.dtype, shape: tensor.shape, bytes: bytes)
                .tensor(on: engine)
        }
        return Parameters(tensors)
    }
}
