import SafeTensors

/// Says that the only tensor of a chunk is a run of elements of a larger one.
public struct TensorPart: Sendable, Equatable, Codable {
    /// Shape of the whole tensor.
    public var shape: [Int]
    /// Position of the first element of this part in the flattened whole.
    public var elementOffset: Int

    /// Makes a part.
    public init(shape: [Int], elementOffset: Int) {
        self.shape = shape
        self.elementOffset = elementOffset
    }
}

/// What travels in one message of a larger set of tensors: some of them, or a part of one.
public struct TensorChunk: Sendable, Equatable {
    /// Whole tensors, or one one-dimensional part.
    public var tensors: TensorSet
    /// Where the part belongs, if it is one.
    public var part: TensorPart?

    /// Makes a chunk.
    public init(tensors: TensorSet, part: TensorPart? = nil) {
        self.tensors = tensors
        self.part = part
    }

    /// Divides tensors, in the order of their names, into chunks of at most `byteCount` bytes. Nothing is copied.
    ///
    /// - Returns: at least one chunk, possibly an empty one.
    /// - Precondition: `byteCount` is at least 8; tensors that must be divided have elements of whole bytes.
    public static func divide(_ tensors: TensorSet, byteCount: Int = 8 << 20) -> [TensorChunk] {
        precondition(byteCount >= 8, "TensorChunk: chunks of \(byteCount) bytes")
        var chunks: [TensorChunk] = []
        var current = TensorSet()
        for name in tensors.names {
            let payload = tensors.required(name)
            if current.count > 0, current.byteCount + payload.bytes.count > byteCount {
                chunks.append(TensorChunk(tensors: current))
                current = TensorSet()
            }
            if payload.bytes.count <= byteCount {
                current[name] = payload
            } else {
                chunks += parts(of: payload, name: name, byteCount: byteCount)
            }
        }
        if current.count > 0 || chunks.isEmpty { chunks.append(TensorChunk(tensors: current)) }
        return chunks
    }

    private static func parts(of payload: TensorPayload, name: String, byteCount: Int) -> [TensorChunk] {
        let elementSize = payload.dtype.bitCount / 8
        precondition(payload.dtype.bitCount % 8 == 0, "TensorChunk: \(payload.dtype.rawValue) cannot be divided")
        let limit = byteCount / elementSize
        return stride(from: 0, to: payload.elementCount, by: limit).map { offset in
            let count = min(limit, payload.elementCount - offset)
            let bytes = payload.bytes[offset * elementSize..<(offset + count) * elementSize]
            return TensorChunk(
                tensors: [name: TensorPayload(dtype: payload.dtype, shape: [count], bytes: bytes)],
                part: TensorPart(shape: payload.shape, elementOffset: offset))
        }
    }

    /// A part is alone, one-dimensional and within its whole.
    func validate() throws(WireError) {
        guard let part else { return }
        guard tensors.count == 1, let payload = tensors[tensors.names[0]], payload.shape.count == 1,
            payload.dtype.bitCount % 8 == 0, part.shape.count <= SafeTensorsLimits.message.rank,
            part.elementOffset >= 0,
            let whole = payload.dtype.byteCount(shape: part.shape),
            part.elementOffset <= whole / (payload.dtype.bitCount / 8) - payload.elementCount
        else { throw WireError(.invalidValue, "the part does not lie within its tensor") }
    }
}

/// Puts chunks together again, in order, within a bound on the total.
public struct TensorAssembler: Sendable {
    /// How many chunks there will be.
    public let chunkCount: Int
    /// The chunk to ask for next; equal to `chunkCount` when all are there.
    public private(set) var nextIndex = 0
    private let maximumByteCount: Int
    private var byteCount = 0
    private var whole = TensorSet()
    private var open: (name: String, shape: [Int], pieces: [TensorPayload], elementCount: Int)?

    /// - Parameters:
    ///   - chunkCount: as the first chunk says.
    ///   - maximumByteCount: what all tensors together may occupy; 64 GiB is more than any model's weights that fit a machine.
    public init(chunkCount: Int, maximumByteCount: Int = 64 << 30) {
        self.chunkCount = chunkCount
        self.maximumByteCount = maximumByteCount
    }

    /// Adds chunk `index`; a repetition of an earlier one is ignored.
    ///
    /// - Throws: `invalidValue` for a chunk out of order or parts that do not fit together, `limitExceeded`.
    public mutating func add(_ chunk: TensorChunk, index: Int) throws(WireError) {
        if index < nextIndex { return }
        guard index == nextIndex, index < chunkCount else {
            throw WireError(.invalidValue, "chunk \(index) came, chunk \(nextIndex) of \(chunkCount) was expected")
        }
        try chunk.validate()
        byteCount += chunk.tensors.byteCount
        guard byteCount <= maximumByteCount else {
            throw WireError(.limitExceeded, "the chunks have more than \(maximumByteCount) bytes together")
        }
        if let part = chunk.part {
            let name = chunk.tensors.names[0]
            try add(chunk.tensors.required(name), name: name, part: part)
        } else {
            if let open { throw WireError(.invalidValue, "tensor \"\(open.name)\" is not continued by chunk \(index)") }
            for name in chunk.tensors.names { try add(chunk.tensors.required(name), name: name) }
        }
        nextIndex += 1
    }

    /// The tensors, once all chunks were added.
    ///
    /// - Throws: `invalidValue` when chunks or parts are missing.
    public func assembled() throws(WireError) -> TensorSet {
        guard nextIndex == chunkCount else {
            throw WireError(.invalidValue, "only \(nextIndex) of \(chunkCount) chunks came")
        }
        if let open { throw WireError(.invalidValue, "tensor \"\(open.name)\" is incomplete") }
        return whole
    }

    private mutating func add(_ payload: TensorPayload, name: String) throws(WireError) {
        guard whole[name] == nil else { throw WireError(.invalidValue, "tensor \"\(name)\" comes twice") }
        whole[name] = payload
    }

    private mutating func add(_ payload: TensorPayload, name: String, part: TensorPart) throws(WireError) {
        guard
            open == nil || open?.name == name && open?.shape == part.shape && open?.pieces[0].dtype == payload.dtype,
            part.elementOffset == open?.elementCount ?? 0
        else { throw WireError(.invalidValue, "the parts of \"\(open?.name ?? name)\" do not follow each other") }
        // Taken out while it grows, so that the pieces are not copied for each of them.
        var whole = open ?? (name, part.shape, [], 0)
        open = nil
        whole.pieces.append(payload)
        whole.elementCount += payload.elementCount
        guard payload.dtype.byteCount(shape: [whole.elementCount]) == payload.dtype.byteCount(shape: part.shape) else {
            open = whole
            return
        }
        let bytes = SharedBytes.joined(whole.pieces.map(\.bytes))
        try add(TensorPayload(dtype: payload.dtype, shape: part.shape, bytes: bytes), name: name)
    }
}
