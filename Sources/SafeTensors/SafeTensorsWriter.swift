/// Writes safetensors data: to a file, or as pieces for a socket.
public enum SafeTensorsWriter {
    /// The header and, in the order it lists them, the tensors' bytes; nothing is copied.
    ///
    /// - Throws: `inconsistentTensor` when a name is used twice.
    public static func encode(
        _ tensors: [SafeTensor], metadata: [String: String] = [:]
    ) throws(SafeTensorsError) -> (header: [UInt8], data: [SharedBytes]) {
        let header = try SafeTensorsHeader(
            describing: tensors.map { ($0.name, $0.dtype, $0.shape) }, metadata: metadata)
        let bytes = Dictionary(tensors.map { ($0.name, $0.bytes) }) { first, _ in first }
        // Every entry came from a tensor of that name, so the lookup cannot fail.
        return (header.encoded(), header.entries.map { bytes[$0.name]! })
    }

    /// Writes a file under a temporary name, syncs it, and renames it into place.
    ///
    /// - Parameters:
    ///   - tensors: each name once.
    ///   - metadata: use `["format": "pt"]` for files that PyTorch tools load.
    ///   - path: the file; one that is there is replaced.
    /// - Throws: `inconsistentTensor`, `inputOutput`.
    public static func write(
        _ tensors: [SafeTensor], metadata: [String: String] = [:], to path: String
    ) throws(SafeTensorsError) {
        let (header, data) = try encode(tensors, metadata: metadata)
        try DurableFile.write([SharedBytes(copying: header)] + data, to: path)
    }
}
