public import SafeTensors

/// The 24 bytes that open every message, little-endian: magic `ADVG`, version u16, kind u16, request id u64,
/// deadline u32 in milliseconds, flags u32.
public struct Envelope: Sendable, Hashable {
    /// Length on the wire.
    public static let byteCount = 24
    /// The protocol version this code speaks.
    public static let version: UInt16 = 8
    private static let magic: [UInt8] = Array("ADVG".utf8)
    private static let replyFlag: UInt32 = 1

    /// What the message is.
    public var kind: MessageKind
    /// Chosen by the requester, unique within one connection identity; a re-sent request and its reply carry the same.
    public var requestID: UInt64
    /// How long the requester will go on waiting, in milliseconds; 0 in replies.
    public var deadlineMilliseconds: UInt32
    /// Whether the message answers a request.
    public var isReply: Bool

    /// Makes an envelope.
    public init(kind: MessageKind, requestID: UInt64, deadlineMilliseconds: UInt32 = 0, isReply: Bool = false) {
        self.kind = kind
        self.requestID = requestID
        self.deadlineMilliseconds = deadlineMilliseconds
        self.isReply = isReply
    }

    /// Reads and checks an envelope.
    ///
    /// - Throws: `badFraming`, `unsupportedVersion`, `unknownKind`, in this order.
    public init(_ bytes: SharedBytes) throws(WireError) {
        guard bytes.count == Self.byteCount else {
            throw WireError(.badFraming, "the envelope has \(bytes.count) bytes, expected \(Self.byteCount)")
        }
        let raw = RawEnvelope(bytes)
        guard raw.magic == Self.magic else { throw WireError(.badFraming, "the envelope does not start with ADVG") }
        guard raw.version == Self.version else {
            throw WireError(
                .unsupportedVersion,
                "the message has protocol version \(raw.version), this program speaks \(Self.version)",
                remedy: "run one version of advgrpo everywhere")
        }
        guard let kind = MessageKind(rawValue: raw.kind) else {
            throw WireError(.unknownKind, "message kind \(raw.kind) is not known")
        }
        guard raw.flags & ~Self.replyFlag == 0 else {
            throw WireError(.badFraming, "unknown flags 0x\(String(raw.flags, radix: 16))")
        }
        self.init(
            kind: kind, requestID: raw.requestID, deadlineMilliseconds: raw.deadlineMilliseconds,
            isReply: raw.flags & Self.replyFlag != 0)
    }

    /// The request id of anything that has the magic, so that even a message of another version can be refused by name.
    public static func requestID(ofUnsupported bytes: SharedBytes) -> UInt64? {
        guard bytes.count == byteCount else { return nil }
        let raw = RawEnvelope(bytes)
        return raw.magic == magic ? raw.requestID : nil
    }

    /// The 24 bytes.
    public var bytes: SharedBytes {
        SharedBytes(count: Self.byteCount) { buffer in
            buffer.copyBytes(from: Self.magic)
            buffer.storeBytes(of: Self.version.littleEndian, toByteOffset: 4, as: UInt16.self)
            buffer.storeBytes(of: kind.rawValue.littleEndian, toByteOffset: 6, as: UInt16.self)
            buffer.storeBytes(of: requestID.littleEndian, toByteOffset: 8, as: UInt64.self)
            buffer.storeBytes(of: deadlineMilliseconds.littleEndian, toByteOffset: 16, as: UInt32.self)
            buffer.storeBytes(of: (isReply ? Self.replyFlag : 0).littleEndian, toByteOffset: 20, as: UInt32.self)
        }
    }
}

/// The fields as they lie in the bytes, not yet checked.
private struct RawEnvelope {
    let magic: [UInt8]
    let version: UInt16
    let kind: UInt16
    let requestID: UInt64
    let deadlineMilliseconds: UInt32
    let flags: UInt32

    /// - Precondition: there are 24 bytes.
    init(_ bytes: SharedBytes) {
        (magic, version, kind, requestID, deadlineMilliseconds, flags) = bytes.withUnsafeBytes { buffer in
            (
                Array(buffer[0..<4]),
                UInt16(littleEndian: buffer.loadUnaligned(fromByteOffset: 4, as: UInt16.self)),
                UInt16(littleEndian: buffer.loadUnaligned(fromByteOffset: 6, as: UInt16.self)),
                UInt64(littleEndian: buffer.loadUnaligned(fromByteOffset: 8, as: UInt64.self)),
                UInt32(littleEndian: buffer.loadUnaligned(fromByteOffset: 16, as: UInt32.self)),
                UInt32(littleEndian: buffer.loadUnaligned(fromByteOffset: 20, as: UInt32.self))
            )
        }
    }
}
