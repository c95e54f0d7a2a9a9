import Foundation
import NeuralNetworks

/// A unigram model of SentencePiece, `spiece.model`: the few fields of its protocol buffer that segmentation needs.
///
/// - Source: google/sentencepiece src/sentencepiece_model.proto. Differences: sampling, training and denormalisation are not read.
struct SentencePieceFile {
    /// Texts and log-probabilities; the position is the id.
    private(set) var pieces: [(text: String, score: Double)] = []
    /// The token of characters without a piece.
    private(set) var unknownID: Int32 = -1
    /// Replacements of characters; nil for none.
    private(set) var characterMap: PrecompiledCharacterMap?

    /// Reads a file.
    ///
    /// - Throws: `configuration` when it is missing or damaged; `unsupported` unless it is a unigram model.
    init(path: String) throws(ModelError) {
        guard let data = FileManager.default.contents(atPath: path) else {
            throw ModelError(
                code: .configuration, source: path, message: "cannot be read; check that the model folder is complete")
        }
        let damaged = ModelError(code: .configuration, source: path, message: "is not a SentencePiece model")
        guard let fields = Self.fields([UInt8](data)[...]) else { throw damaged }
        // Every file has the rules, behind the pieces: one without them was cut.
        guard fields.contains(where: { $0.number == 3 }) else { throw damaged }
        for field in fields {
            switch (field.number, field.value) {
            case (1, .bytes(let bytes)):
                guard let piece = Self.piece(bytes) else { throw damaged }
                if piece.isUnknown { unknownID = Int32(pieces.count) }
                pieces.append((piece.text, piece.score))
            case (2, .bytes(let bytes)):
                guard let trainer = Self.fields(bytes) else { throw damaged }
                if let type = trainer.last(where: { $0.number == 3 })?.value, type != .number(1) {
                    throw ModelError(code: .unsupported, source: path, message: "is not a unigram model")
                }
            case (3, .bytes(let bytes)):
                guard let normalizer = Self.fields(bytes) else { throw damaged }
                if case .bytes(let map)? = normalizer.last(where: { $0.number == 2 })?.value, !map.isEmpty {
                    guard let characterMap = PrecompiledCharacterMap(bytes: Array(map)) else { throw damaged }
                    self.characterMap = characterMap
                }
            default: break
            }
        }
        guard !pieces.isEmpty, unknownID >= 0 else { throw damaged }
    }

    /// Piece, score and type 2 for the unknown token, of a message `SentencePiece`.
    private static func piece(_ bytes: ArraySlice<UInt8>) -> (text: String, score: Double, isUnknown: Bool)? {
        guard let fields = fields(bytes) else { return nil }
        var (text, score, isUnknown) = ("", 0.0, false)
        for field in fields {
            switch (field.number, field.value) {
            case (1, .bytes(let bytes)):
                guard let decoded = String(validating: bytes, as: UTF8.self) else { return nil }
                text = decoded
            case (2, .word(let word)): score = Double(Float(bitPattern: word))
            case (3, .number(let type)): isUnknown = type == 2
            default: break
            }
        }
        return score.isFinite ? (text, score, isUnknown) : nil
    }

    private enum Value: Equatable {
        case number(UInt64)
        case word(UInt32)
        case bytes(ArraySlice<UInt8>)
        case skipped
    }

    /// The fields of a protocol buffer message in order; nil when the bytes are not one.
    private static func fields(_ bytes: ArraySlice<UInt8>) -> [(number: UInt64, value: Value)]? {
        var rest = bytes
        func varint() -> UInt64? {
            var value: UInt64 = 0
            for shift in stride(from: 0, to: 64, by: 7) {
                guard let byte = rest.popFirst() else { return nil }
                value |= UInt64(byte & 0x7F) << UInt64(shift)
                if byte & 0x80 == 0 { return value }
            }
            return nil
        }
        func taken(_ count: UInt64) -> ArraySlice<UInt8>? {
            guard count <= UInt64(rest.count) else { return nil }
            defer { rest = rest.dropFirst(Int(count)) }
            return rest.prefix(Int(count))
        }
        var fields: [(UInt64, Value)] = []
        while !rest.isEmpty {
            guard let key = varint() else { return nil }
            let value: Value
            switch key & 7 {
            case 0:
                guard let number = varint() else { return nil }
                value = .number(number)
            case 1:
                guard taken(8) != nil else { return nil }
                value = .skipped
            case 2:
                guard let count = varint(), let bytes = taken(count) else { return nil }
                value = .bytes(bytes)
            case 5:
                guard let word = taken(4) else { return nil }
                value = .word(word.reversed().reduce(0) { $0 << 8 | UInt32($1) })
            default: return nil
            }
            fields.append((key >> 3, value))
        }
        return fields
    }
}
