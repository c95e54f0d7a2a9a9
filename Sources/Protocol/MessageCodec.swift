public import SafeTensors

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// A message ready to be sent: three frames. Header and data together are one safetensors file.
public struct EncodedMessage: Sendable {
    /// Kind and request id; the deadline is set whenever it is sent.
    public var envelope: Envelope
    /// Length, JSON and padding of the safetensors file.
    public let header: SharedBytes
    /// The tensors' bytes; a single tensor, or several that lie one behind the other in memory, are not copied.
    public let data: SharedBytes

    /// Envelope, header, data.
    public var frames: [SharedBytes] { [envelope.bytes, header, data] }

    /// Encodes a message.
    ///
    /// - Parameters:
    ///   - message: validated first.
    ///   - runID: the run it belongs to; nil for callers that belong to none, such as an operator asking for health.
    ///   - clientID: the requester's identity over reconnections; nil in replies.
    ///   - sender: the role of the requester; nil in replies, and for an operator.
    ///   - requestID: the request's number, also in its reply.
    ///   - deadlineMilliseconds: how long the requester waits; 0 in replies.
    ///   - isReply: whether it answers a request.
    ///   - limits: what a message may hold.
    /// - Throws: `invalidValue`, `malformedFields` (a number JSON cannot hold), `limitExceeded`.
    public init<Message: WireMessage>(
        _ message: Message, runID: RunID?, clientID: ClientID? = nil, sender: Role? = nil, requestID: UInt64,
        isReply: Bool = false, limits: WireLimits = .standard
    ) throws(WireError) {
        try message.validate()
        var metadata = ["message": try MessageCodec.json(of: message)]
        if let runID { metadata["run"] = runID.rawValue }
        if let clientID { metadata["client"] = clientID.rawValue }
        if let sender { metadata["role"] = sender.rawValue }
        let tensors = message.tensors
        let pieces = tensors.names.map { name in
            let payload = tensors.required(name)
            return SafeTensor(name: name, dtype: payload.dtype, shape: payload.shape, bytes: payload.bytes)
        }
        let encoded: (header: [UInt8], data: [SharedBytes])
        do throws(SafeTensorsError) {
            encoded = try SafeTensorsWriter.encode(pieces, metadata: metadata)
        } catch {
            throw WireError(error)
        }
        // Before the tensors are put together: what is too large is not even copied.
        let byteCount = encoded.data.reduce(0) { $0 + $1.count }
        guard encoded.header.count - SafeTensorsHeader.lengthByteCount <= limits.tensors.headerByteCount,
            byteCount <= limits.dataByteCount
        else {
            throw WireError(
                .limitExceeded,
                "\(Message.kind) has a header of \(encoded.header.count) and \(byteCount) bytes of tensors, "
                    + "allowed are \(limits.tensors.headerByteCount) and \(limits.dataByteCount)",
                remedy: "send it in chunks")
        }
        header = SharedBytes(copying: encoded.header)
        data = SharedBytes.joined(encoded.data)
        envelope = Envelope(kind: Message.kind, requestID: requestID, isReply: isReply)
    }
}

/// A message that has arrived: its framing, header and tensors are valid, its fields not yet read.
public struct ReceivedMessage: Sendable {
    /// Kind, request id, deadline.
    public let envelope: Envelope
    /// The run the sender belongs to, if any.
    public let runID: RunID?
    /// The requester over all its connections, if it says so.
    public let clientID: ClientID?
    /// The role that the requester says it plays, if it says so.
    public let sender: Role?
    /// Its fields as they came.
    public let json: String
    /// Its tensors as they came.
    public let tensors: TensorSet

    /// Checks frames as they came from a socket (without routing frames).
    ///
    /// - Throws: everything of `WireError` but `malformedFields` and `invalidValue`.
    public init(frames: [SharedBytes], limits: WireLimits = .standard) throws(WireError) {
        guard frames.count == 3 else {
            throw WireError(.badFraming, "the message has \(frames.count) frames, expected envelope, header and data")
        }
        envelope = try Envelope(frames[0])
        guard frames[2].count <= limits.dataByteCount else {
            throw WireError(
                .limitExceeded,
                "\(envelope.kind) brings \(frames[2].count) bytes of tensors, accepted are \(limits.dataByteCount)")
        }
        let source = "message"
        let header: SafeTensorsHeader
        do throws(SafeTensorsError) {
            let frame = frames[1]
            let jsonByteCount = try frame.withUnsafeBytes { (bytes) throws(SafeTensorsError) in
                try SafeTensorsHeader.jsonByteCount(
                    prefix: bytes, totalByteCount: bytes.count, limits: limits.tensors, source: source)
            }
            guard jsonByteCount == frame.count - SafeTensorsHeader.lengthByteCount else {
                throw SafeTensorsError(
                    code: .malformedHeader, source: source,
                    message: "the header frame has \(frame.count) bytes, its length says \(jsonByteCount + 8)")
            }
            header = try SafeTensorsHeader(
                json: frame[SafeTensorsHeader.lengthByteCount..<frame.count].array, dataByteCount: frames[2].count,
                limits: limits.tensors, source: source)
        } catch {
            // The kind's name is looked up only here: that takes as long as reading a small header.
            throw WireError(
                SafeTensorsError(
                    code: error.code, source: "message \(envelope.kind)", tensor: error.tensor, message: error.message,
                    remedy: error.remedy))
        }
        guard let json = header.metadata["message"] else {
            throw WireError(.malformedFields, "\(envelope.kind) has no \"message\" in its metadata")
        }
        self.json = json
        runID = header.metadata["run"].flatMap(RunID.init(rawValue:))
        clientID = header.metadata["client"].flatMap(ClientID.init(rawValue:))
        sender = header.metadata["role"].flatMap(Role.init(rawValue:))
        guard (runID == nil) == (header.metadata["run"] == nil), (clientID == nil) == (header.metadata["client"] == nil)
        else { throw WireError(.malformedFields, "\(envelope.kind) has a malformed run or client id") }
        guard (sender == nil) == (header.metadata["role"] == nil) else {
            throw WireError(.malformedFields, "\(envelope.kind) comes from a role that is not known")
        }
        tensors = TensorSet(
            header.entries.reduce(into: [:]) { result, entry in
                result[entry.name] = TensorPayload(
                    dtype: entry.dtype, shape: entry.shape, bytes: frames[2][entry.byteRange])
            })
    }

    /// Reads the fields and checks every rule of the message.
    ///
    /// - Throws: `unknownKind` when it is not a `Message`, `malformedFields`, `invalidValue`.
    public func decoded<Message: WireMessage>(as type: Message.Type = Message.self) throws(WireError) -> Message {
        guard envelope.kind == Message.kind else {
            throw WireError(.unknownKind, "expected \(Message.kind), got \(envelope.kind)")
        }
        var message = try MessageCodec.message(type, from: json)
        message.tensors = tensors
        guard message.tensors.count == tensors.count else {
            throw WireError(
                .invalidValue, "\(Message.kind) brings tensors it should not have: \(tensors.names.prefix(4))")
        }
        try message.validate()
        return message
    }
}

/// JSON on both sides.
enum MessageCodec {
    static func json<Message: WireMessage>(of message: Message) throws(WireError) -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        do {
            return String(decoding: try encoder.encode(message), as: UTF8.self)
        } catch {
            throw WireError(.malformedFields, "\(Message.kind) cannot be written as JSON: \(explanation(error))")
        }
    }

    static func message<Message: WireMessage>(_ type: Message.Type, from json: String) throws(WireError) -> Message {
        do {
            return try JSONDecoder().decode(type, from: Data(json.utf8))
        } catch DecodingError.dataCorrupted(let context) where context.underlyingError is OutOfRange {
            throw WireError(
                .invalidValue,
                "\(context.codingPath.map(\.stringValue).joined(separator: ".")) \(context.debugDescription)"
            )
        } catch {
            throw WireError(.malformedFields, "\(Message.kind): \(explanation(error))")
        }
    }

    /// The field and the reason, without the decoder's prose.
    private static func explanation(_ error: any Error) -> String {
        func place(_ path: [any CodingKey]) -> String {
            path.isEmpty ? "the message" : "field \"\(path.map(\.stringValue).joined(separator: "."))\""
        }
        switch error {
        case DecodingError.keyNotFound(let key, let context):
            return "\(place(context.codingPath + [key])) is missing"
        case DecodingError.valueNotFound(_, let context): return "\(place(context.codingPath)) is null"
        case DecodingError.typeMismatch(let type, let context):
            return "\(place(context.codingPath)) is not of type \(type)"
        case DecodingError.dataCorrupted(let context):
            return "\(place(context.codingPath)): \(context.debugDescription.prefix(200))"
        case EncodingError.invalidValue(let value, let context):
            return "\(place(context.codingPath)) is \("\(value)".prefix(40))"
        default: return "\("\(error)".prefix(200))"
        }
    }
}
