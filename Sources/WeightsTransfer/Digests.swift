internal import Platform
public import Protocol
public import SafeTensors

extension PieceDigest {
    /// XXH3-128 of a piece.
    public init(of bytes: SharedBytes) { self.init(bytes: bytes.withUnsafeBytes { XXH3.digest(of: $0) }) }
}

extension ManifestDigest {
    /// SHA-256 of a manifest's text.
    public init(of text: SharedBytes) {
        var hash = SHA256()
        text.withUnsafeBytes { hash.update($0) }
        self.init(bytes: hash.digest)
    }
}

extension ContentDigest {
    /// XXH3-128 over the digests of a set's tensors, in the order of their names: of each what it is called and like, and its bytes.
    public init(of tensors: TensorSet) {
        var whole = XXH3()
        for name in tensors.names {
            guard let tensor = tensors[name] else { continue }
            let likeness = "\(name)\u{0}\(tensor.dtype.rawValue)\(tensor.shape)"
            whole.update(XXH3.digest(of: Array(likeness.utf8)))
            whole.update(tensor.bytes.withUnsafeBytes { XXH3.digest(of: $0) })
        }
        self.init(bytes: whole.digest)
    }
}
