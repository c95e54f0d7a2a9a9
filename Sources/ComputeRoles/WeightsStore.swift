public import NeuralNetworks
public import Protocol
import SafeTensors
public import TensorCore
public import WeightsTransfer

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

    /// The parameters that a manifest describes; pulls what is missing, and lets no others through than those of this digest.
    /// What a relay forged is pulled again from the learner. Blocks the calling thread.
    ///
    /// - Throws: as `WeightsDownload.manifest`, what has arrived by then stays; `wrongBytes` too when the learner's are not those of the digest.
    public func parameters(
        _ manifest: ManifestDigest, of digest: WeightsDigest, on engine: any Engine
    ) throws -> Parameters {
        while true {
            let parameters = try pulled(manifest, on: engine)
            let actual = WeightsDigest(of: parameters)
            if actual == digest {
                download.accept()
                return parameters
            }
            forget()
            try download.reject(actual, insteadOf: digest)
        }
    }

    private func pulled(_ digest: ManifestDigest, on engine: any Engine) throws -> Parameters {
        let manifest = try download.manifest(digest)
        let lengths = Dictionary(uniqueKeysWithValues: manifest.pieces.map { ($0.digest, $0.byteCount) })
        pieces = pieces.filter { lengths[$0.key] == $0.value.count }
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
            tensors[tensor.name] = try TensorPayload(dtype: tensor.dtype, shape: tensor.shape, bytes: bytes)
                .tensor(on: engine)
        }
        return Parameters(tensors)
    }
}
