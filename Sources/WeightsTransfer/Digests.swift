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
