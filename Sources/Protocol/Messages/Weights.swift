public import SafeTensors

/// Asks for the manifest of a version of the weights.
public struct ManifestRequest: WireRequest {
    public typealias Reply = Manifest
    public static let kind = MessageKind.manifestRequest

    /// SHA-256 of the manifest's text, as a lease names it.
    public var manifest: ManifestDigest

    /// Makes the message.
    public init(manifest: ManifestDigest) { self.manifest = manifest }
}

/// A manifest's text; the receiver compares its digest.
public struct Manifest: WireMessage {
    public static let kind = MessageKind.manifest

    /// `manifest` U8 [n].
    public var tensors: TensorSet

    /// Makes the message.
    public init(text: SharedBytes) {
        tensors = ["manifest": TensorPayload(dtype: .uint8, shape: [text.count], bytes: text)]
    }

    /// The text as it came.
    public var text: SharedBytes { tensors.required("manifest").bytes }

    /// One tensor, of bytes.
    public func validate() throws(WireError) {
        try Check.tensor("manifest", in: tensors, .uint8, [nil])
        try Check.onlyTensors(["manifest"], in: tensors)
    }
}

/// Asks for pieces of weights. The receiver asks for each, so nobody sends more than is wanted and what a receiver holds, from
/// another version or from before a lost connection, does not travel again.
public struct PiecesRequest: WireRequest {
    public typealias Reply = Pieces
    public static let kind = MessageKind.piecesRequest
    /// What the pieces of one request may occupy together, unless it asks for a single one.
    public static let maximumByteCount = 4 << 20
    /// How many pieces one request may ask for.
    public static let maximumCount = 1024

    /// The pieces wanted, each once, in the order in which they are to come.
    public var pieces: [PieceDigest]

    /// Makes the message.
    public init(pieces: [PieceDigest]) { self.pieces = pieces }

    /// 1 to 1024 different pieces.
    public func validate() throws(WireError) {
        guard (1...Self.maximumCount).contains(pieces.count) else {
            throw WireError(.invalidValue, "\(pieces.count) pieces are asked for, expected 1 to \(Self.maximumCount)")
        }
        guard Set(pieces).count == pieces.count else {
            throw WireError(.invalidValue, "a piece is asked for twice")
        }
    }
}

/// Pieces of weights; the receiver compares the digest of each.
public struct Pieces: WireMessage {
    public static let kind = MessageKind.pieces

    /// `0000`, `0001`, ... U8 [n], in the order in which they were asked for.
    public var tensors: TensorSet

    /// Makes the message. Pieces that lie one behind the other in memory are sent from there.
    ///
    /// - Precondition: at most `PiecesRequest.maximumCount`.
    public init(_ pieces: [SharedBytes]) {
        precondition(pieces.count <= PiecesRequest.maximumCount, "Pieces: \(pieces.count) in one message")
        tensors = TensorSet(
            Dictionary(
                uniqueKeysWithValues: pieces.enumerated().map { index, bytes in
                    (Self.name(index), TensorPayload(dtype: .uint8, shape: [bytes.count], bytes: bytes))
                }))
    }

    /// The bytes, in the order in which they were asked for.
    public var pieces: [SharedBytes] { tensors.names.map { tensors.required($0).bytes } }

    /// Tensors of bytes, numbered from 0.
    public func validate() throws(WireError) {
        let names = tensors.names
        guard (1...PiecesRequest.maximumCount).contains(names.count) else {
            throw WireError(.invalidValue, "\(names.count) pieces came, expected 1 to \(PiecesRequest.maximumCount)")
        }
        for (index, name) in names.enumerated() {
            guard name == Self.name(index) else {
                throw WireError(.invalidValue, "piece \(index) is called \"\(name.prefix(80))\"")
            }
            try Check.tensor(name, in: tensors, .uint8, [nil])
        }
    }

    private static func name(_ index: Int) -> String {
        let digits = String(index)
        return String(repeating: "0", count: 4 - digits.count) + digits
    }
}
