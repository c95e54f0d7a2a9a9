/// A message that carries one chunk of a larger set of tensors; its fields lie flat among the message's own.
public protocol ChunkMessage: WireMessage {
    /// Which chunk this is, from 0.
    var chunkIndex: Int { get }
    /// How many there are.
    var chunkCount: Int { get }
    /// Present when the only tensor of this chunk is a part of a larger one.
    var part: TensorPart? { get }
}

extension ChunkMessage {
    /// The tensors and what they are a part of.
    public var chunk: TensorChunk { TensorChunk(tensors: tensors, part: part) }

    /// The index lies within the count, and a part within its tensor.
    public func validate() throws(WireError) {
        try Check.chunk(chunkIndex, of: chunkCount)
        try chunk.validate()
    }
}

/// Asks for one chunk of a set of tensors. The receiver asks for each, so nobody sends more than is wanted.
public protocol ChunkRequest: WireRequest where Reply: ChunkMessage {
    /// The chunk wanted, from 0.
    var chunkIndex: Int { get set }
}

extension ChunkRequest {
    /// The index is one.
    public func validate() throws(WireError) { try Check.number(chunkIndex, "chunkIndex", 0...Check.chunks.upperBound) }
}

extension Array where Element == TensorChunk {
    /// The chunk that somebody asked for.
    ///
    /// - Throws: `noSuchChunk`.
    public func requested(_ index: Int) throws(Failure) -> TensorChunk {
        guard indices.contains(index) else {
            throw Failure(
                code: .noSuchChunk, message: "chunk \(index) of \(count) was asked for",
                remedy: "start again from chunk 0")
        }
        return self[index]
    }
}
