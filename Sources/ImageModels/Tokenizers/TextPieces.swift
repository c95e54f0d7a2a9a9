// Normalisation needs Unicode composition, which FoundationEssentials lacks.
import Foundation

/// How CLIP cuts a text before byte-pair encoding: NFC, white space to single blanks, lower case, then the matches of
/// `<|startoftext|>|<|endoftext|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+`.
enum TextPieces {
    static func split(_ segment: [Unicode.Scalar]) -> [[Unicode.Scalar]] {
        let scalars = normalized(segment)
        var pieces: [[Unicode.Scalar]] = []
        var position = 0
        while position < scalars.count {
            let start = position
            if isSpace(scalars[position]) {
                position += 1
                continue
            }
            if let literal = literals.first(where: { scalars[position...].starts(with: $0) }) {
                position += literal.count
                // The byte-level step cuts a special token that lower-casing produced into its three runs.
                pieces += literal.count > 3 ? runs(literal) : [literal]
                continue
            }
            if isNumber(scalars[position]) {
                position += 1
            } else {
                let isWord = isLetter(scalars[position])
                while position < scalars.count, isWord ? isLetter(scalars[position]) : isSymbol(scalars[position]) {
                    position += 1
                }
            }
            pieces.append(Array(scalars[start..<position]))
        }
        return pieces
    }

    private static let literals = ["<|startoftext|>", "<|endoftext|>", "'s", "'t", "'re", "'ve", "'m", "'ll", "'d"]
        .map { Array($0.unicodeScalars) }

    private static func normalized(_ segment: [Unicode.Scalar]) -> [Unicode.Scalar] {
        var text = ""
        text.unicodeScalars.append(contentsOf: segment)
        return text.precomposedStringWithCanonicalMapping.unicodeScalars.flatMap {
            Array($0.properties.lowercaseMapping.unicodeScalars)
        }
    }

    private static func runs(_ scalars: [Unicode.Scalar]) -> [[Unicode.Scalar]] {
        var runs: [[Unicode.Scalar]] = []
        for scalar in scalars {
            if let last = runs.last?.last, isLetter(last) == isLetter(scalar) {
                runs[runs.count - 1].append(scalar)
            } else {
                runs.append([scalar])
            }
        }
        return runs
    }

    private static func isSpace(_ scalar: Unicode.Scalar) -> Bool { scalar.properties.isWhitespace }

    private static func isSymbol(_ scalar: Unicode.Scalar) -> Bool {
        !isSpace(scalar) && !isLetter(scalar) && !isNumber(scalar)
    }

    private static func isLetter(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: true
        default: false
        }
    }

    private static func isNumber(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .decimalNumber, .letterNumber, .otherNumber: true
        default: false
        }
    }
}

/// GPT-2's printable characters for the 256 bytes: printable Latin-1 stands for itself, the rest follows from U+0100 on.
enum ByteAlphabet {
    static let characters: [Unicode.Scalar] = {
        var next: UInt32 = 256
        return (0..<256).map { (byte: UInt32) in
            let isPrintable = (33...126).contains(byte) || (161...172).contains(byte) || (174...255).contains(byte)
            defer { if !isPrintable { next += 1 } }
            // Both ranges lie below the surrogates, so the scalar exists.
            return Unicode.Scalar(isPrintable ? byte : next)!
        }
    }()
}
