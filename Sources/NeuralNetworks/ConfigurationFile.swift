import Platform

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// JSON configuration files of models, as Python's `json` writes and reads them.
public enum ConfigurationFile {
    /// Decodes a file. `NaN`, `Infinity` and `-Infinity`, which Python writes for such numbers, are read as these.
    ///
    /// - Throws: `configuration`, naming the file and the entry.
    public static func read<Value: Decodable>(_ type: Value.Type, path: String) throws(ModelError) -> Value {
        let bytes = try Files<ModelError>.readText(path)
        let decoder = JSONDecoder()
        decoder.nonConformingFloatDecodingStrategy = .convertFromString(
            positiveInfinity: "Infinity", negativeInfinity: "-Infinity", nan: "NaN")
        let data = Data(quotingConstants(bytes))
        do {
            return try decoder.decode(type, from: data)
        } catch {
            let isJSON = (try? decoder.decode(Anything.self, from: data)) != nil
            throw ModelError(code: .configuration, source: path, message: explanation(error, isJSON: isJSON))
        }
    }

    /// A file's text, without a byte-order mark.
    ///
    /// - Throws: `configuration` when it cannot be read or is not UTF-8.
    public static func text(path: String) throws(ModelError) -> String {
        String(decoding: try Files<ModelError>.readText(path), as: UTF8.self)
    }

    /// The largest size a configuration may state: products of three still fit 64 bits.
    public static let largestSize = 1 << 20

    /// Refuses sizes no model has, which would overflow or divide by zero later.
    ///
    /// - Parameters:
    ///   - sizes: by the file's own names.
    ///   - limit: the largest possible.
    ///   - path: of the file, which errors name.
    /// - Throws: `configuration`, naming file, entry and range.
    public static func requireSizes(
        _ sizes: KeyValuePairs<String, Int>, upTo limit: Int = largestSize, path: String
    ) throws(ModelError) {
        for (name, size) in sizes where !(1...limit).contains(size) {
            throw ModelError(
                code: .configuration, source: path, message: "entry \"\(name)\" is \(size), expected 1 to \(limit)")
        }
    }

    /// Refuses numbers that no model has, those that are not finite among them.
    ///
    /// - Parameters:
    ///   - numbers: by the file's own names; nil where the file states none.
    ///   - range: what they may be.
    ///   - path: of the file, which errors name.
    /// - Throws: `configuration`, naming file, entry and range.
    public static func requireNumbers(
        _ numbers: KeyValuePairs<String, Double?>, in range: ClosedRange<Double>, path: String
    ) throws(ModelError) {
        for (name, number) in numbers {
            guard let number, !range.contains(number) else { continue }
            throw ModelError(
                code: .configuration, source: path,
                message: "entry \"\(name)\" is \(number), expected \(range.lowerBound) to \(range.upperBound)")
        }
    }

    /// Factors that leave numbers of fp32 what they are.
    public static let factors = 1e-6...1e6
    /// Epsilons of normalisations.
    public static let epsilons = 1e-15...1.0

    /// Refuses entries whose values change the arithmetic and have no code here.
    ///
    /// - Parameters:
    ///   - entries: by the file's own names: what the file says, nil for nothing, and the values that are supported.
    ///   - path: of the file, which errors name.
    /// - Throws: `unsupported`, naming file and entry.
    public static func requireSupported<Value: Equatable>(
        _ entries: KeyValuePairs<String, (value: Value?, supported: [Value])>, path: String
    ) throws(ModelError) {
        for (name, entry) in entries {
            guard let value = entry.value, !entry.supported.contains(value) else { continue }
            let supported = entry.supported.map { "\($0)" }.joined(separator: " and ")
            throw ModelError(
                code: .unsupported, source: path,
                message: "\(name) \(abbreviated("\(value)")) is not supported, only \(supported)")
        }
    }

    /// Whether a file exists.
    public static func exists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }

    /// The beginning of a text that an error may quote.
    public static func abbreviated(_ text: String) -> String {
        text.unicodeScalars.count <= 40 ? text : String(text.unicodeScalars.prefix(37)) + "..."
    }

    /// Puts quotes around Python's names of numbers that JSON lacks, where they stand outside of strings.
    private static func quotingConstants(_ bytes: [UInt8]) -> [UInt8] {
        let constants = ["NaN", "Infinity", "-Infinity"].map { Array($0.utf8) }
        let quote = UInt8(ascii: "\"")
        var quoted: [UInt8] = []
        quoted.reserveCapacity(bytes.count)
        var isInString = false
        var position = 0
        while position < bytes.count {
            let byte = bytes[position]
            if isInString, byte == UInt8(ascii: "\\") {
                quoted += bytes[position..<min(position + 2, bytes.count)]
                position += 2
                continue
            }
            if byte == quote { isInString.toggle() }
            // Only the first letters of the constants are looked at closer.
            if !isInString, byte == UInt8(ascii: "N") || byte == UInt8(ascii: "I") || byte == UInt8(ascii: "-"),
                let constant = constants.first(where: { bytes[position...].starts(with: $0) })
            {
                quoted += [quote] + constant + [quote]
                position += constant.count
                continue
            }
            quoted.append(byte)
            position += 1
        }
        return quoted
    }

    private struct Anything: Decodable {
        init(from decoder: any Decoder) {}
    }

    private static func explanation(_ error: any Error, isJSON: Bool) -> String {
        func entry(_ path: [any CodingKey]) -> String {
            let name = path.map { $0.intValue.map(String.init) ?? $0.stringValue }.joined(separator: ".")
            return name.isEmpty ? "the file" : "entry \"\(abbreviated(name))\""
        }
        switch error as? DecodingError {
        case .keyNotFound(let key, let context):
            return "has no \(entry(context.codingPath + [key]))"
        case .valueNotFound(_, let context): return "\(entry(context.codingPath)) is null"
        case .typeMismatch(let type, let context): return "\(entry(context.codingPath)) is not \(word(type))"
        // The decoder does not say which entry holds a number that its type cannot hold.
        default:
            return isJSON
                ? "has a number that is too large, or no whole number where one is expected" : "is not valid JSON"
        }
    }

    /// A type in words of JSON.
    private static func word(_ type: any Any.Type) -> String {
        switch "\(type)" {
        case "String": "text"
        case "Bool": "true or false"
        case "Float", "Double": "a number"
        case let name where name.hasPrefix("Int") || name.hasPrefix("UInt"): "a whole number"
        case let name where name.hasPrefix("Array"): "a list"
        default: "an object"
        }
    }
}
