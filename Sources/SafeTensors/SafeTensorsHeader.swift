/// The parsed or to-be-written header of a safetensors file: every rule of the format holds for a value of this type.
///
/// Tensors cover the data section exactly: sorted, without holes or overlap, each as long as its type and shape ask for.
///
/// - Source: `huggingface/safetensors:README.md`, "Format", and `SafeTensors::validate`. Differences: bounded counts and
///   ranks, duplicate and unknown keys are refused, and written headers are padded so that the data starts at a multiple of 64.
public struct SafeTensorsHeader: Sendable, Equatable {
    /// The tensors in the order of their bytes.
    public let entries: [TensorEntry]
    /// The free text entries of `__metadata__`.
    public let metadata: [String: String]
    /// Length of the data section.
    public let dataByteCount: Int
    private let positions: [String: Int]

    /// The entry of this name, if there is one.
    public subscript(name: String) -> TensorEntry? { positions[name].map { entries[$0] } }

    /// Lays out tensors one after the other: wider elements first, so that each stays aligned, then by name.
    ///
    /// - Throws: `inconsistentTensor` for a name used twice or a size that overflows.
    public init(
        describing tensors: [(name: String, dtype: SafeTensorsDataType, shape: [Int])],
        metadata: [String: String] = [:],
        source: String = "new safetensors data"
    ) throws(SafeTensorsError) {
        let order = tensors.sorted {
            $0.dtype.bitCount == $1.dtype.bitCount ? $0.name < $1.name : $0.dtype.bitCount > $1.dtype.bitCount
        }
        var entries: [TensorEntry] = []
        var end = 0
        for tensor in order {
            guard let size = tensor.dtype.byteCount(shape: tensor.shape), size <= Int.max - end else {
                throw SafeTensorsError(
                    code: .inconsistentTensor, source: source, tensor: tensor.name,
                    message: "\(tensor.dtype.rawValue) \(tensor.shape) is not a whole number of bytes below 2^63")
            }
            entries.append(
                TensorEntry(name: tensor.name, dtype: tensor.dtype, shape: tensor.shape, byteRange: end..<end + size))
            end += size
        }
        try self.init(entries: entries, metadata: metadata, source: source)
    }

    /// Checks what the parser or the layout produced.
    init(entries: [TensorEntry], metadata: [String: String], source: String) throws(SafeTensorsError) {
        let sorted = entries.sorted {
            ($0.byteRange.lowerBound, $0.byteRange.upperBound, $0.name)
                < ($1.byteRange.lowerBound, $1.byteRange.upperBound, $1.name)
        }
        var positions: [String: Int] = [:]
        var end = 0
        for (position, entry) in sorted.enumerated() {
            func fail(_ message: String) -> SafeTensorsError {
                SafeTensorsError(code: .inconsistentTensor, source: source, tensor: entry.name, message: message)
            }
            guard entry.name != "__metadata__" else { throw fail("the name is reserved") }
            guard positions.updateValue(position, forKey: entry.name) == nil else { throw fail("appears twice") }
            guard let size = entry.dtype.byteCount(shape: entry.shape) else {
                throw fail("\(entry.dtype.rawValue) \(entry.shape) is not a whole number of bytes below 2^63")
            }
            guard size == entry.byteRange.count else {
                throw fail(
                    "\(entry.dtype.rawValue) \(entry.shape) needs \(size) bytes, the range has \(entry.byteRange.count)"
                )
            }
            guard entry.byteRange.lowerBound == end else {
                throw fail(
                    "starts at byte \(entry.byteRange.lowerBound), expected \(end): holes and overlap are not allowed")
            }
            end = entry.byteRange.upperBound
        }
        self.entries = sorted
        self.metadata = metadata
        self.positions = positions
        dataByteCount = end
    }

    /// The first bytes of a file: length, JSON, and spaces up to a multiple of 64.
    public func encoded() -> [UInt8] {
        var json = "{"
        if !metadata.isEmpty {
            json += "\"__metadata__\":{"
            json += metadata.sorted { $0.key < $1.key }
                .map { jsonString($0.key) + ":" + jsonString($0.value) }.joined(separator: ",")
            json += "}" + (entries.isEmpty ? "" : ",")
        }
        json += entries.map { entry in
            let shape = entry.shape.map(String.init).joined(separator: ",")
            return jsonString(entry.name) + ":{\"dtype\":\"\(entry.dtype.rawValue)\",\"shape\":[\(shape)],"
                + "\"data_offsets\":[\(entry.byteRange.lowerBound),\(entry.byteRange.upperBound)]}"
        }.joined(separator: ",")
        json += "}"
        let used = 8 + json.utf8.count
        let padded = (used + 63) / 64 * 64
        var bytes = withUnsafeBytes(of: UInt64(padded - 8).littleEndian) { Array($0) }
        bytes.reserveCapacity(padded)
        bytes.append(contentsOf: json.utf8)
        bytes.append(contentsOf: repeatElement(0x20, count: padded - used))
        return bytes
    }
}

/// JSON text of a string: quotes, backslashes and control characters escaped.
private func jsonString(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
        switch scalar {
        case "\"": result += "\\\""
        case "\\": result += "\\\\"
        case "\u{0}"..<"\u{20}":
            let digits = String(scalar.value, radix: 16)
            result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
        default: result.unicodeScalars.append(scalar)
        }
    }
    return result + "\""
}
