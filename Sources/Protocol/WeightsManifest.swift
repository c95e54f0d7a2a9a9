public import SafeTensors

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// What a version of the weights consists of: its tensors, and the digests of the pieces their bytes are divided into.
///
/// It travels as JSON text and is itself asked for by the SHA-256 of that text, which a lease names: so it cannot be wrong without
/// being noticed, whoever delivered it. A piece that is damaged is noticed too, and what two versions have in common has the same
/// digests.
public struct WeightsManifest: Sendable, Equatable, Codable {
    /// One tensor.
    public struct Tensor: Sendable, Equatable, Codable {
        /// Its name; each appears once.
        public var name: String
        /// Type of the elements.
        public var dtype: SafeTensorsDataType
        /// Dimensions, outermost first; empty for a scalar.
        public var shape: [Int]
        /// Its bytes from the first to the last: `pieceByteCount` in each piece, the rest in the last one. None when it is empty.
        public var pieces: [PieceDigest]

        /// Makes a tensor.
        public init(name: String, dtype: SafeTensorsDataType, shape: [Int], pieces: [PieceDigest]) {
            self.name = name
            self.dtype = dtype
            self.shape = shape
            self.pieces = pieces
        }
    }

    /// A piece and its length in bytes.
    public struct Piece: Sendable, Hashable {
        /// What to ask for.
        public var digest: PieceDigest
        /// Bytes it has.
        public var byteCount: Int

        /// Makes a piece.
        public init(digest: PieceDigest, byteCount: Int) {
            self.digest = digest
            self.byteCount = byteCount
        }
    }

    /// The longest text that is read.
    public static let maximumTextByteCount = 64 << 20
    /// The longest pieces there may be.
    public static let maximumPieceByteCount = 16 << 20
    /// What all tensors together may occupy: more than any weights that fit a machine.
    public static let maximumByteCount = 1 << 40

    /// Length of a piece, but for the last one of each tensor.
    public let pieceByteCount: Int
    /// The tensors, in the order of their names' UTF-8 bytes.
    public let tensors: [Tensor]
    /// Every piece once, in the order of the tensors.
    public let pieces: [Piece]
    /// Bytes of all tensors together.
    public let byteCount: Int

    private enum CodingKeys: String, CodingKey { case pieceByteCount, tensors }

    /// Makes a manifest.
    ///
    /// - Throws: `invalidValue` when tensors are out of order or do not have as many pieces as their bytes ask for, or a digest
    ///   stands for pieces of several lengths; `limitExceeded`.
    public init(pieceByteCount: Int, tensors: [Tensor]) throws(WireError) {
        guard (1...Self.maximumPieceByteCount).contains(pieceByteCount) else {
            throw WireError(.invalidValue, "the manifest has pieces of \(pieceByteCount) bytes, expected 1 to 16 MiB")
        }
        var lengths: [PieceDigest: Int] = [:]
        var pieces: [Piece] = []
        var total = 0
        for (position, tensor) in tensors.enumerated() {
            let name = tensor.name.prefix(80)
            if position > 0, !tensors[position - 1].name.utf8.lexicographicallyPrecedes(tensor.name.utf8) {
                throw WireError(.invalidValue, "the manifest has tensor \"\(name)\" twice or out of order")
            }
            guard tensor.shape.count <= SafeTensorsLimits.message.rank,
                let byteCount = tensor.dtype.byteCount(shape: tensor.shape),
                byteCount <= Self.maximumByteCount - total
            else {
                throw WireError(
                    .limitExceeded, "the manifest's tensor \"\(name)\" is \(tensor.dtype.rawValue) of absurd shape")
            }
            total += byteCount
            guard tensor.pieces.count == (byteCount + pieceByteCount - 1) / pieceByteCount else {
                throw WireError(
                    .invalidValue,
                    "the manifest's tensor \"\(name)\" has \(tensor.pieces.count) pieces for \(byteCount) bytes")
            }
            for (index, digest) in tensor.pieces.enumerated() {
                let length = min(pieceByteCount, byteCount - index * pieceByteCount)
                if let known = lengths.updateValue(length, forKey: digest) {
                    guard known == length else {
                        throw WireError(
                            .invalidValue, "the manifest's piece \(digest) has \(known) and \(length) bytes")
                    }
                } else {
                    pieces.append(Piece(digest: digest, byteCount: length))
                }
            }
        }
        self.pieceByteCount = pieceByteCount
        self.tensors = tensors
        self.pieces = pieces
        byteCount = total
    }

    /// Reads the JSON fields and checks them.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        try self.init(
            pieceByteCount: container.decode(Int.self, forKey: .pieceByteCount),
            tensors: container.decode([Tensor].self, forKey: .tensors))
    }

    /// Reads the text.
    ///
    /// - Throws: `malformedFields`, and what `init` throws.
    public init(text: SharedBytes) throws(WireError) {
        guard text.count <= Self.maximumTextByteCount else {
            throw WireError(.limitExceeded, "the manifest has \(text.count) bytes, accepted are 64 MiB")
        }
        do {
            self = try JSONDecoder().decode(WeightsManifest.self, from: Data(text.array))
        } catch let error as WireError {
            throw error
        } catch {
            throw WireError(.malformedFields, "the manifest is malformed: \("\(error)".prefix(200))")
        }
    }

    /// The text that travels and whose SHA-256 names the manifest: keys sorted, no spaces.
    public var text: SharedBytes {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        guard let data = try? encoder.encode(self) else {
            preconditionFailure("WeightsManifest: numbers and texts that JSON cannot hold")
        }
        return SharedBytes(copying: Array(data))
    }
}
