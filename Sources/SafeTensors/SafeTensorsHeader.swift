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
        var bytes = [UInt8](repeating: 0, count: Self.lengthByteCount)
        bytes.reserveCapacity(1024)
        bytes.append(UInt8(ascii: "{"))
        if !metadata.isEmpty {
            bytes.append(contentsOf: "\"__metadata__\":{".utf8)
            for (position, entry) in metadata.sorted(by: { $0.key < $1.key }).enumerated() {
                if position > 0 { bytes.append(UInt8(ascii: ",")) }
                bytes.append(json: entry.key)
                bytes.append(UInt8(ascii: ":"))
                bytes.append(json: entry.value)
            }
            bytes.append(contentsOf: (entries.isEmpty ? "}" : "},").utf8)
        }
        for (position, entry) in entries.enumerated() {
            if position > 0 { bytes.append(UInt8(ascii: ",")) }
            bytes.append(json: entry.name)
            let shape = entry.shape.map(String.init).joined(separator: ",")
            let range = "\(entry.byteRange.lowerBound),\(entry.byteRange.upperBound)"
            bytes.append(contentsOf: ":{\"dtype\":\"\(entry.dtype.rawValue)\",\"shape\":[\(shape)]".utf8)
            bytes.append(contentsOf: ",\"data_offsets\":[\(range)]}".utf8)
        }
        bytes.append(UInt8(ascii: "}"))
        bytes.append(contentsOf: repeatElement(0x20, count: (bytes.count + 63) / 64 * 64 - bytes.count))
        let length = UInt64(bytes.count - Self.lengthByteCount).littleEndian
        withUnsafeBytes(of: length) { bytes.replaceSubrange(0..<Self.lengthByteCount, with: $0) }
        return bytes
    }
}

extension [UInt8] {
    /// Appends a string as JSON: quotes, backslashes and control characters escaped.
    fileprivate mutating func append(json text: String) {
        append(UInt8(ascii: "\""))
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"):
                append(UInt8(ascii: "\\"))
                append(byte)
            case 0..<0x20:
                let digits = String(byte, radix: 16)
                append(contentsOf: ("\\u" + String(repeating: "0", count: 4 - digits.count) + digits).utf8)
            default: append(byte)
            }
        }
        append(UInt8(ascii: "\""))
    }
}
