public import NeuralNetworks
internal import Platform
public import Protocol
internal import SafeTensors
internal import TensorCore
public import WeightsTransfer

extension WeightsDigest {
    /// SHA-256 of the parameters' canonical form: what a worker executed, the same on every machine and engine.
    public init(of parameters: Parameters) {
        var hash = SHA256()
        parameters.forEachCanonicalPiece { hash.update($0) }
        self.init(bytes: hash.digest)
    }
}

extension PublishedWeights {
    /// Copies parameters to the host and digests them.
    ///
    /// - Parameter pieceByteCount: 1 to `WeightsManifest.maximumPieceByteCount`.
    /// - Throws: `WireError` for more than a manifest can describe.
    public init(
        version: PolicyVersion, parameters: Parameters, pieceByteCount: Int = PublishedWeights.pieceByteCount
    ) throws(WireError) {
        let entries = parameters.entries
        let bytes = SharedBytes(count: parameters.byteCount) { buffer in
            var offset = 0
            for (_, tensor) in entries {
                let values = tensor.engine.bytes(of: tensor)
                buffer[offset..<offset + values.count].copyBytes(from: values)
                offset += values.count
            }
        }
        try self.init(
            version: version, digest: WeightsDigest(of: parameters),
            tensors: entries.map { ($0.name, $0.tensor.dtype == .float32 ? .float32 : .bfloat16, $0.tensor.shape) },
            bytes: bytes, pieceByteCount: pieceByteCount)
    }
}
