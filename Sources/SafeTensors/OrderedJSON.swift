/// A JSON value whose objects keep the order of their members, for configurations in which the first match wins.
///
/// Reads what Python writes, `NaN` and `Infinity` too, so that the caller can name the entry that holds them.
package enum OrderedJSON: Sendable, Equatable {
    case null
    case bool(Bool)
    case number(Double)
    case string(String)
    case array([OrderedJSON])
    case object([(key: String, value: OrderedJSON)])

    /// The value that some bytes write, with nothing behind it but white space; nil unless they are JSON of at most 64 levels.
    package init?(_ bytes: [UInt8]) {
        guard String(validating: bytes, as: UTF8.self) != nil else { return nil }
        var scanner = JSONScanner(bytes)
        guard let value = try? Self.value(&scanner, bytes: bytes, depth: 64) else { return nil }
        scanner.skipWhitespace()
        guard scanner.isAtEnd else { return nil }
        self = value
    }

    /// The members of an object, in order; nil for anything else.
    package var members: [(key: String, value: OrderedJSON)]? {
        if case .object(let members) = self { members } else { nil }
    }

    /// Whether Python takes the value for false: null, false, 0, and empty text, lists and objects.
    package var isEmpty: Bool {
        switch self {
        case .null: true
        case .bool(let value): !value
        case .number(let value): value == 0
        case .string(let text): text.isEmpty
        case .array(let elements): elements.isEmpty
        case .object(let members): members.isEmpty
        }
    }

    package static func == (left: OrderedJSON, right: OrderedJSON) -> Bool {
        switch (left, right) {
        case (.null, .null): true
        case (.bool(let a), .bool(let b)): a == b
        case (.number(let a), .number(let b)): a == b
        case (.string(let a), .string(let b)): a == b
        case (.array(let a), .array(let b)): a == b
        case (.object(let a), .object(let b)): a.elementsEqual(b) { $0.key == $1.key && $0.value == $1.value }
        default: false
        }
    }

    private static func value(
        _ scanner: inout JSONScanner, bytes: [UInt8], depth: Int
    ) throws(JSONScanner.Failure) -> OrderedJSON {
        guard depth > 0 else { throw scanner.failure("nested too deeply") }
        scanner.skipWhitespace()
        guard !scanner.isAtEnd else { throw scanner.failure("expected a value") }
        switch bytes[scanner.offset] {
        case UInt8(ascii: "{"):
            var members: [(key: String, value: OrderedJSON)] = []
            try scanner.object { (key, scanner) throws(JSONScanner.Failure) in
                members.append((key, try value(&scanner, bytes: bytes, depth: depth - 1)))
            }
            return .object(members)
        case UInt8(ascii: "["):
            var elements: [OrderedJSON] = []
            try scanner.array { (scanner) throws(JSONScanner.Failure) in
                elements.append(try value(&scanner, bytes: bytes, depth: depth - 1))
            }
            return .array(elements)
        case UInt8(ascii: "\""): return .string(try scanner.string())
        default:
            let begin = scanner.offset
            try scanner.skipValue(maximumDepth: 1)
            let word = String(decoding: bytes[begin..<scanner.offset], as: UTF8.self)
            switch word {
            case "null": return .null
            case "true": return .bool(true)
            case "false": return .bool(false)
            case "NaN": return .number(.nan)
            case "Infinity": return .number(.infinity)
            case "-Infinity": return .number(-.infinity)
            default:
                // Swift reads "nan" and "0x1p3" too, which JSON does not have.
                guard word.utf8.allSatisfy({ "+-.0123456789eE".utf8.contains($0) }), let number = Double(word) else {
                    throw scanner.failure("expected a value")
                }
                return .number(number)
            }
        }
    }
}
