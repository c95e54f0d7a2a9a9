/// A strict scanner over a bounded piece of JSON; the caller says what must come next.
///
/// Nothing is built that the caller did not ask for, so neither depth nor counts can grow behind its back. Positions are
/// bounds-checked because the bytes are an array.
struct JSONScanner {
    struct Failure: Error {
        let message: String
        let offset: Int
    }

    private let bytes: [UInt8]
    private(set) var offset = 0

    /// - Parameter bytes: valid UTF-8 (checked by the caller).
    init(_ bytes: [UInt8]) { self.bytes = bytes }

    var isAtEnd: Bool { offset == bytes.count }

    func failure(_ message: String) -> Failure { Failure(message: message, offset: offset) }

    mutating func skipWhitespace() {
        while offset < bytes.count {
            switch bytes[offset] {
            case 0x20, 0x0A, 0x0D, 0x09: offset += 1
            default: return
            }
        }
    }

    /// Consumes an ASCII character (after white space) if it is next.
    mutating func consume(_ character: Unicode.Scalar) -> Bool {
        skipWhitespace()
        guard offset < bytes.count, bytes[offset] == UInt8(ascii: character) else { return false }
        offset += 1
        return true
    }

    mutating func expect(_ character: Unicode.Scalar) throws(Failure) {
        guard consume(character) else { throw failure("expected '\(character)'") }
    }

    /// Walks an object; `member` is called with each key, positioned at its value.
    mutating func object(
        _ member: (String, inout JSONScanner) throws(Failure) -> Void
    ) throws(Failure) {
        try expect("{")
        if consume("}") { return }
        repeat {
            skipWhitespace()
            let key = try string()
            try expect(":")
            try member(key, &self)
        } while consume(",")
        try expect("}")
    }

    /// Walks an array; `element` is called positioned at each element.
    mutating func array(_ element: (inout JSONScanner) throws(Failure) -> Void) throws(Failure) {
        try expect("[")
        if consume("]") { return }
        repeat { try element(&self) } while consume(",")
        try expect("]")
    }

    /// A non-negative integer that fits `Int`, without sign, leading zeros, fraction or exponent.
    mutating func unsignedInteger() throws(Failure) -> Int {
        skipWhitespace()
        let begin = offset
        var value = 0
        while offset < bytes.count, (0x30...0x39).contains(bytes[offset]) {
            let (product, productOverflow) = value.multipliedReportingOverflow(by: 10)
            let (sum, sumOverflow) = product.addingReportingOverflow(Int(bytes[offset] - 0x30))
            guard !productOverflow, !sumOverflow else { throw failure("the number is larger than 2^63") }
            value = sum
            offset += 1
        }
        guard offset > begin else { throw failure("expected a non-negative integer") }
        guard offset == begin + 1 || bytes[begin] != 0x30 else { throw failure("a number starts with 0") }
        if offset < bytes.count, [0x2E, 0x65, 0x45].contains(bytes[offset]) {
            throw failure("expected a whole number")
        }
        return value
    }

    mutating func string() throws(Failure) -> String {
        try expect("\"")
        var content: [UInt8] = []
        while true {
            // Most strings are one piece without escapes, of which no copy is made.
            let begin = offset
            while offset < bytes.count, bytes[offset] >= 0x20, bytes[offset] != 0x22, bytes[offset] != 0x5C {
                offset += 1
            }
            guard offset < bytes.count else { throw failure("a string does not end") }
            let piece = bytes[begin..<offset]
            let byte = bytes[offset]
            offset += 1
            if byte == 0x22, content.isEmpty { return String(decoding: piece, as: UTF8.self) }
            content += piece
            switch byte {
            case 0x22: return String(decoding: content, as: UTF8.self)
            case 0x5C: try escape(into: &content)
            default: throw failure("a string holds a control character")
            }
        }
    }

    /// Skips one value of any kind.
    mutating func skipValue(maximumDepth: Int) throws(Failure) {
        guard maximumDepth > 0 else { throw failure("nested too deeply") }
        skipWhitespace()
        guard offset < bytes.count else { throw failure("expected a value") }
        switch bytes[offset] {
        case 0x7B:
            try object { (_, scanner) throws(Failure) in try scanner.skipValue(maximumDepth: maximumDepth - 1) }
        case 0x5B:
            try array { (scanner) throws(Failure) in try scanner.skipValue(maximumDepth: maximumDepth - 1) }
        case 0x22: _ = try string()
        default:
            let begin = offset
            while offset < bytes.count, isScalarByte(bytes[offset]) { offset += 1 }
            guard offset > begin else { throw failure("expected a value") }
        }
    }

    private func isScalarByte(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2B, 0x2D, 0x2E: true
        default: false
        }
    }

    private mutating func escape(into content: inout [UInt8]) throws(Failure) {
        guard offset < bytes.count else { throw failure("a string does not end") }
        let byte = bytes[offset]
        offset += 1
        switch byte {
        case 0x22, 0x5C, 0x2F: content.append(byte)
        case 0x62: content.append(0x08)
        case 0x66: content.append(0x0C)
        case 0x6E: content.append(0x0A)
        case 0x72: content.append(0x0D)
        case 0x74: content.append(0x09)
        case 0x75: content.append(contentsOf: try unicodeEscape().utf8)
        default: throw failure("unknown escape in a string")
        }
    }

    private mutating func unicodeEscape() throws(Failure) -> Character {
        let first = try fourHexadecimalDigits()
        var scalar = UInt32(first)
        if (0xD800..<0xDC00).contains(first) {
            guard offset + 1 < bytes.count, bytes[offset] == 0x5C, bytes[offset + 1] == 0x75 else {
                throw failure("half a surrogate pair in a string")
            }
            offset += 2
            let second = try fourHexadecimalDigits()
            guard (0xDC00..<0xE000).contains(second) else { throw failure("half a surrogate pair in a string") }
            scalar = 0x10000 + (UInt32(first) - 0xD800) << 10 + (UInt32(second) - 0xDC00)
        }
        guard let unicode = Unicode.Scalar(scalar) else { throw failure("half a surrogate pair in a string") }
        return Character(unicode)
    }

    private mutating func fourHexadecimalDigits() throws(Failure) -> UInt16 {
        guard offset + 4 <= bytes.count,
            let value = UInt16(String(decoding: bytes[offset..<offset + 4], as: UTF8.self), radix: 16),
            bytes[offset] != 0x2B, bytes[offset] != 0x2D
        else { throw failure("expected four hexadecimal digits") }
        offset += 4
        return value
    }
}
