internal import LibC
internal import Platform
public import Processes

/// A TensorBoard event file: records of `tensorflow.Event` messages in TFRecord framing, both encoded by hand.
///
/// A record is `length u64 | masked crc32c(length) u32 | bytes | masked crc32c(bytes) u32`, little-endian.
/// Not `Sendable`: one thread writes.
public final class EventFile {
    private let file: OpenFile
    /// The file.
    public var path: String { file.path }

    /// Creates a file of its own name in a folder.
    ///
    /// - Parameters:
    ///   - folder: TensorBoard's log directory.
    ///   - step: the first step that this file will hold; TensorBoard then forgets what older files say from there on.
    public init(folder: String, firstStep step: Int = 0) throws(RuntimeError) {
        var name = [CChar](repeating: 0, count: 256)
        gethostname(&name, name.count - 1)
        let host = String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let now = Self.wallTime()
        file = try OpenFile("\(folder)/events.out.tfevents.\(Int(now)).\(host).\(getpid()).\(step)", .replace)
        try append(ProtocolBuffer { $0.bytes(3, Array("brain.Event:2".utf8)) }, step: 0, time: now)
        // SessionLog{status: START}: TensorBoard drops events of earlier files from this step on.
        if step > 0 { try append(ProtocolBuffer { $0.message(7) { $0.integer(1, 1) } }, step: step, time: now) }
    }

    /// Adds numbers to curves.
    public func append(step: Int, scalars: [(name: String, value: Double)]) throws(RuntimeError) {
        let event = ProtocolBuffer { event in
            event.message(5) { summary in
                for (name, value) in scalars {
                    summary.message(1) {
                        $0.bytes(1, Array(name.utf8))
                        $0.float(2, Float(value))
                    }
                }
            }
        }
        try append(event, step: step, time: Self.wallTime())
    }

    /// Adds an image.
    ///
    /// - Parameters:
    ///   - step: at which it is shown.
    ///   - name: by which it is shown.
    ///   - png: the encoded image.
    ///   - width: its width in pixels.
    ///   - height: its height in pixels.
    public func append(
        step: Int, image name: String, png: [UInt8], width: Int, height: Int
    ) throws(RuntimeError) {
        let event = ProtocolBuffer { event in
            event.message(5) { summary in
                summary.message(1) { value in
                    value.bytes(1, Array(name.utf8))
                    value.message(4) {
                        $0.integer(1, height)
                        $0.integer(2, width)
                        $0.integer(3, 3)
                        $0.bytes(4, png)
                    }
                }
            }
        }
        try append(event, step: step, time: Self.wallTime())
    }

    private func append(_ content: ProtocolBuffer, step: Int, time: Double) throws(RuntimeError) {
        let event = ProtocolBuffer {
            $0.double(1, time)
            $0.integer(2, step)
            $0.raw(content.bytes)
        }
        try file.write(Self.record(event.bytes))
    }

    /// One framed record.
    static func record(_ bytes: [UInt8]) -> [UInt8] {
        let length = littleEndian(UInt64(bytes.count))
        return length + littleEndian(maskedChecksum(length)) + bytes + littleEndian(maskedChecksum(bytes))
    }

    private static func wallTime() -> Double {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        return Double(now.tv_sec) + Double(now.tv_nsec) * 1e-9
    }

    private static func littleEndian(_ value: some FixedWidthInteger) -> [UInt8] {
        withUnsafeBytes(of: value.littleEndian) { Array($0) }
    }

    private static func maskedChecksum(_ bytes: [UInt8]) -> UInt32 {
        let checksum = crc32c(bytes)
        return (checksum >> 15 | checksum << 17) &+ 0xA282_EAD8
    }

    /// CRC-32C (Castagnoli), reflected polynomial 0x82F63B78.
    static func crc32c(_ bytes: [UInt8]) -> UInt32 {
        var checksum = ~UInt32(0)
        for byte in bytes { checksum = checksum >> 8 ^ checksumTable[Int(UInt8(truncatingIfNeeded: checksum) ^ byte)] }
        return ~checksum
    }

    private static let checksumTable: [UInt32] = (0..<256).map { index in
        (0..<8).reduce(UInt32(index)) { value, _ in value & 1 == 1 ? value >> 1 ^ 0x82F6_3B78 : value >> 1 }
    }
}

/// A protocol buffer message under construction.
struct ProtocolBuffer {
    private(set) var bytes: [UInt8] = []

    init(_ build: (inout ProtocolBuffer) -> Void) { build(&self) }

    /// A non-negative whole number.
    mutating func integer(_ field: Int, _ value: Int) {
        variable(UInt64(field << 3))
        variable(UInt64(value))
    }

    /// A 64-bit floating-point number.
    mutating func double(_ field: Int, _ value: Double) {
        variable(UInt64(field << 3 | 1))
        withUnsafeBytes(of: value.bitPattern.littleEndian) { bytes.append(contentsOf: $0) }
    }

    /// A 32-bit floating-point number.
    mutating func float(_ field: Int, _ value: Float) {
        variable(UInt64(field << 3 | 5))
        withUnsafeBytes(of: value.bitPattern.littleEndian) { bytes.append(contentsOf: $0) }
    }

    /// Text or bytes.
    mutating func bytes(_ field: Int, _ value: [UInt8]) {
        variable(UInt64(field << 3 | 2))
        variable(UInt64(value.count))
        bytes.append(contentsOf: value)
    }

    /// A message inside this one.
    mutating func message(_ field: Int, _ build: (inout ProtocolBuffer) -> Void) {
        bytes(field, ProtocolBuffer(build).bytes)
    }

    /// Fields that are already encoded.
    mutating func raw(_ fields: [UInt8]) { bytes.append(contentsOf: fields) }

    private mutating func variable(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
    }
}
