extension SafeTensorsHeader {
    /// Length of the number that opens a file.
    public static let lengthByteCount = 8

    /// Reads the length of the JSON from the first 8 bytes of a file of `totalByteCount` bytes.
    ///
    /// - Throws: `malformedHeader` or `limitExceeded`; nothing was allocated then.
    public static func jsonByteCount(
        prefix: UnsafeRawBufferPointer, totalByteCount: Int, limits: SafeTensorsLimits, source: String
    ) throws(SafeTensorsError) -> Int {
        guard prefix.count >= lengthByteCount, totalByteCount >= lengthByteCount else {
            throw SafeTensorsError(
                code: .malformedHeader, source: source,
                message: "\(totalByteCount) bytes are too few for a safetensors header",
                remedy: "the file is cut short: copy or download it again")
        }
        let declared = UInt64(littleEndian: prefix.loadUnaligned(as: UInt64.self))
        guard declared <= UInt64(limits.headerByteCount) else {
            throw SafeTensorsError(
                code: .limitExceeded, source: source,
                message: "the header claims \(declared) bytes, at most \(limits.headerByteCount) are accepted")
        }
        guard Int(declared) <= totalByteCount - lengthByteCount else {
            throw SafeTensorsError(
                code: .malformedHeader, source: source,
                message: "the header claims \(declared) bytes, only \(totalByteCount - lengthByteCount) follow",
                remedy: "the file is cut short: copy or download it again")
        }
        return Int(declared)
    }

    /// Parses the JSON of a header whose data section has `dataByteCount` bytes.
    ///
    /// - Parameters:
    ///   - json: the header without its 8 length bytes.
    ///   - dataByteCount: length of the data section; the tensors must fill it without gaps.
    ///   - limits: what is refused as too much.
    ///   - source: the file or message, for errors.
    /// - Throws: `malformedHeader`, `limitExceeded`, `inconsistentTensor`.
    public init(
        json: [UInt8], dataByteCount: Int, limits: SafeTensorsLimits, source: String
    ) throws(SafeTensorsError) {
        guard json.first == UInt8(ascii: "{") else {
            throw SafeTensorsError(
                code: .malformedHeader, source: source, message: "the header does not start with '{'")
        }
        guard String(validating: json, as: UTF8.self) != nil else {
            throw SafeTensorsError(code: .malformedHeader, source: source, message: "the header is not valid UTF-8")
        }
        var contents: HeaderContents
        do {
            contents = try HeaderContents(json, limits: limits)
        } catch {
            throw SafeTensorsError(
                code: error.isLimit ? .limitExceeded : .malformedHeader, source: source,
                message: "header byte \(error.offset): \(error.message)")
        }
        try self.init(entries: contents.entries, metadata: contents.metadata, source: source)
        guard self.dataByteCount == dataByteCount else {
            throw SafeTensorsError(
                code: .inconsistentTensor, source: source,
                message: "the tensors end at byte \(self.dataByteCount) of the data, which has \(dataByteCount) bytes",
                remedy: "the file is cut short or damaged: copy or download it again")
        }
    }
}

/// What the JSON says, before entries are held against each other.
private struct HeaderContents {
    var entries: [TensorEntry] = []
    var metadata: [String: String] = [:]

    struct Failure: Error {
        var message: String
        var offset: Int
        var isLimit = false
    }

    init(_ json: [UInt8], limits: SafeTensorsLimits) throws(Failure) {
        var scanner = JSONScanner(json)
        var entries: [TensorEntry] = []
        var metadata: [String: String]?
        var exceeded = false
        do throws(JSONScanner.Failure) {
            try scanner.object { (key, scanner) throws(JSONScanner.Failure) in
                if key == "__metadata__" {
                    guard metadata == nil else { throw scanner.failure("\"__metadata__\" appears twice") }
                    metadata = try Self.metadata(&scanner, limits: limits, exceeded: &exceeded)
                } else {
                    guard entries.count < limits.tensorCount else {
                        exceeded = true
                        throw scanner.failure("more than \(limits.tensorCount) tensors")
                    }
                    entries.append(try Self.entry(key, &scanner, limits: limits, exceeded: &exceeded))
                }
            }
            // Only spaces may follow; other white space is not padding.
            guard json[scanner.offset...].allSatisfy({ $0 == 0x20 }) else {
                throw scanner.failure("something other than spaces follows the header")
            }
        } catch {
            throw Failure(message: error.message, offset: error.offset, isLimit: exceeded)
        }
        self.entries = entries
        self.metadata = metadata ?? [:]
    }

    private static func metadata(
        _ scanner: inout JSONScanner, limits: SafeTensorsLimits, exceeded: inout Bool
    ) throws(JSONScanner.Failure) -> [String: String] {
        var result: [String: String] = [:]
        var tooMany = false
        defer { exceeded = exceeded || tooMany }
        try scanner.object { (key, scanner) throws(JSONScanner.Failure) in
            guard result.count < limits.metadataCount else {
                tooMany = true
                throw scanner.failure("more than \(limits.metadataCount) metadata entries")
            }
            guard result.updateValue(try scanner.string(), forKey: key) == nil else {
                throw scanner.failure("metadata \(quoted(key)) appears twice")
            }
        }
        return result
    }

    private static func entry(
        _ name: String, _ scanner: inout JSONScanner, limits: SafeTensorsLimits, exceeded: inout Bool
    ) throws(JSONScanner.Failure) -> TensorEntry {
        var dtype: SafeTensorsDataType?
        var shape: [Int]?
        var offsets: [Int]?
        var tooMany = false
        defer { exceeded = exceeded || tooMany }
        try scanner.object { (key, scanner) throws(JSONScanner.Failure) in
            switch key {
            case "dtype" where dtype == nil:
                let text = try scanner.string()
                guard let known = SafeTensorsDataType(rawValue: text) else {
                    throw scanner.failure("tensor \(quoted(name)): unknown dtype \(quoted(text))")
                }
                dtype = known
            case "shape" where shape == nil:
                var dimensions: [Int] = []
                try scanner.array { (scanner) throws(JSONScanner.Failure) in
                    guard dimensions.count < limits.rank else {
                        tooMany = true
                        throw scanner.failure("tensor \(quoted(name)): more than \(limits.rank) dimensions")
                    }
                    dimensions.append(try scanner.unsignedInteger())
                }
                shape = dimensions
            case "data_offsets" where offsets == nil:
                var pair: [Int] = []
                try scanner.array { (scanner) throws(JSONScanner.Failure) in
                    guard pair.count < 2 else { throw scanner.failure("data_offsets has more than two numbers") }
                    pair.append(try scanner.unsignedInteger())
                }
                guard pair.count == 2, pair[0] <= pair[1] else {
                    throw scanner.failure("tensor \(quoted(name)): data_offsets must be [begin, end] with begin <= end")
                }
                offsets = pair
            default:
                throw scanner.failure("tensor \(quoted(name)): unexpected or repeated key \(quoted(key))")
            }
        }
        guard let dtype, let shape, let offsets else {
            throw scanner.failure("tensor \(quoted(name)): dtype, shape and data_offsets are all needed")
        }
        return TensorEntry(name: name, dtype: dtype, shape: shape, byteRange: offsets[0]..<offsets[1])
    }
}
