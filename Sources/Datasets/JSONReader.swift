/// A JSON value, as far as lists of prompts need it.
enum JSONValue {
    case string(String)
    case object([(name: String, value: JSONValue)])
    case list([(value: JSONValue, line: Int)])
    /// A number, truth value or null, also the NaN and Infinity that Python writes.
    case other
}

/// Reads JSON from UTF-8 bytes.
struct JSONReader {
    let bytes: [UInt8]
    let path: String
    var position = 0
    var line: Int
    /// What the text must be, for errors.
    let form: String

    init(
        bytes: [UInt8], path: String, line: Int = 1,
        form: String = #"the file must be JSON of the form {"prompt": ["image.png", ...], ...}"#
    ) {
        self.bytes = bytes
        self.path = path
        self.line = line
        self.form = form
        skipSpace()
    }

    /// Elements between two brackets, separated by commas.
    mutating func list(
        from opening: Unicode.Scalar, to closing: Unicode.Scalar,
        element: (inout JSONReader) throws(DatasetError) -> Void
    ) throws(DatasetError) {
        try expect(opening)
        if skip(closing) { return }
        repeat { try element(&self) } while skip(",")
        try expect(closing)
    }

    mutating func expect(_ scalar: Unicode.Scalar) throws(DatasetError) {
        guard skip(scalar) else { throw malformed("'\(scalar)'") }
    }

    func expectEnd() throws(DatasetError) {
        guard position == bytes.count else { throw malformed("the end of the file") }
    }

    /// Whether everything has been read.
    var isAtEnd: Bool { position == bytes.count }

    /// The next character, or nil at the end.
    var next: Unicode.Scalar? { position < bytes.count ? Unicode.Scalar(bytes[position]) : nil }

    /// A value of any kind, at most 64 deep.
    mutating func value(depth: Int = 0) throws(DatasetError) -> JSONValue {
        guard depth < 64 else { throw malformed("at most 64 brackets within each other") }
        switch next {
        case "\"": return .string(try string())
        case "{":
            var fields: [(name: String, value: JSONValue)] = []
            try list(from: "{", to: "}") { (reader) throws(DatasetError) in
                let name = try reader.string()
                try reader.expect(":")
                fields.append((name, try reader.value(depth: depth + 1)))
            }
            return .object(fields)
        case "[": return .list(try values(depth: depth))
        default:
            let rest = bytes[position...].prefix {
                Character(Unicode.Scalar($0)).isLetter || "+-.0123456789".utf8.contains($0)
            }
            let word = String(decoding: rest, as: UTF8.self)
            let words = ["true", "false", "null", "NaN", "Infinity", "-Infinity"]
            guard words.contains(word) || Double(word) != nil else { throw malformed("a value") }
            position += rest.count
            skipSpace()
            return .other
        }
    }

    /// The values of a list, each with the line where it begins.
    mutating func values(depth: Int = 0) throws(DatasetError) -> [(value: JSONValue, line: Int)] {
        var values: [(value: JSONValue, line: Int)] = []
        try list(from: "[", to: "]") { (reader) throws(DatasetError) in
            let line = reader.line
            values.append((try reader.value(depth: depth + 1), line))
        }
        return values
    }

    mutating func string() throws(DatasetError) -> String {
        guard position < bytes.count, bytes[position] == UInt8(ascii: "\"") else { throw malformed("a string") }
        position += 1
        var units: [UInt8] = []
        while position < bytes.count, bytes[position] != UInt8(ascii: "\"") {
            guard bytes[position] >= 0x20 else { throw malformed("the end of a string") }
            if bytes[position] == UInt8(ascii: "\\") {
                units.append(contentsOf: Array(String(try escape()).utf8))
            } else {
                units.append(bytes[position])
                position += 1
            }
        }
        guard position < bytes.count else { throw malformed("the end of a string") }
        guard let text = String(validating: units, as: UTF8.self) else { throw malformed("UTF-8 text") }
        position += 1
        skipSpace()
        return text
    }

    /// The scalar of an escape sequence, which may be a surrogate pair.
    private mutating func escape() throws(DatasetError) -> Unicode.Scalar {
        let letter = position + 1 < bytes.count ? Unicode.Scalar(bytes[position + 1]) : " "
        position += 2
        switch letter {
        case "\"", "\\", "/": return letter
        case "b": return "\u{8}"
        case "f": return "\u{C}"
        case "n": return "\n"
        case "r": return "\r"
        case "t": return "\t"
        case "u":
            let unit = try hexadecimalUnit()
            if UTF16.isLeadSurrogate(unit), position + 1 < bytes.count,
                bytes[position] == UInt8(ascii: "\\"), bytes[position + 1] == UInt8(ascii: "u")
            {
                position += 2
                let trail = try hexadecimalUnit()
                guard UTF16.isTrailSurrogate(trail) else { throw malformed("a surrogate pair") }
                return UTF16.decode(UTF16.EncodedScalar([unit, trail]))
            }
            guard let scalar = Unicode.Scalar(unit) else { throw malformed("a surrogate pair") }
            return scalar
        default: throw malformed("a valid escape")
        }
    }

    private mutating func hexadecimalUnit() throws(DatasetError) -> UInt16 {
        guard position + 4 <= bytes.count,
            bytes[position..<position + 4].allSatisfy({ Character(Unicode.Scalar($0)).isHexDigit }),
            let unit = UInt16(String(decoding: bytes[position..<position + 4], as: UTF8.self), radix: 16)
        else { throw malformed("four hexadecimal digits") }
        position += 4
        return unit
    }

    private mutating func skip(_ scalar: Unicode.Scalar) -> Bool {
        guard position < bytes.count, bytes[position] == UInt8(ascii: scalar) else { return false }
        position += 1
        skipSpace()
        return true
    }

    private mutating func skipSpace() {
        while position < bytes.count, [0x20, 0x09, 0x0A, 0x0D].contains(bytes[position]) {
            if bytes[position] == 0x0A { line += 1 }
            position += 1
        }
    }

    private func malformed(_ expected: String) -> DatasetError {
        DatasetError(
            code: .malformedList, path: path, message: "line \(line): expected \(expected)",
            remedy: form)
    }
}
