/// A number of a file or message outside its range.
public struct OutOfRange: Error, Sendable, Equatable, CustomStringConvertible {
    /// The number.
    public let value: Int
    /// What it may be.
    public let range: Range<Int>

    /// Such a number.
    public init(_ value: Int, in range: Range<Int>) {
        self.value = value
        self.range = range
    }

    /// "is 7, expected 0 to 5".
    public var description: String { "is \(value), expected \(range.lowerBound) to \(range.upperBound - 1)" }

    /// The number, if it lies in the range.
    ///
    /// - Throws: `DecodingError.dataCorrupted` over this error.
    static func check(_ value: Int, in range: Range<Int>, at path: [any CodingKey]) throws -> Int {
        guard range.contains(value) else {
            let error = OutOfRange(value, in: range)
            throw DecodingError.dataCorrupted(
                .init(codingPath: path, debugDescription: error.description, underlyingError: error))
        }
        return value
    }
}

extension KeyedDecodingContainer {
    /// A number that must lie in a range.
    func decode(within range: Range<Int>, forKey key: Key) throws -> Int {
        try OutOfRange.check(try decode(Int.self, forKey: key), in: range, at: codingPath + [key])
    }
}
