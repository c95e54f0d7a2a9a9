public import Protocol
public import Transport

/// Large sets of tensors, chunk by chunk: the receiver asks for each, so nobody sends more than is wanted and a lost answer
/// costs one chunk. All of these block the calling thread.
extension Client {
    /// Longest wait for one chunk.
    private static let chunkDeadline = Duration.seconds(60)

    /// The state of a discriminator version.
    ///
    /// - Throws: `Failure` as the server replied, `TransportError`, `WireError`.
    public func discriminatorState(_ version: DiscriminatorVersion) throws -> TensorSet {
        try assembled(DiscriminatorStateRequest(version: version, chunkIndex: 0))
    }

    /// Makes the reward server continue from a state.
    ///
    /// - Returns: digests of the models that its scores come from.
    /// - Throws: as `discriminatorState`.
    public func restoreDiscriminator(
        _ version: DiscriminatorVersion, _ state: TensorSet, runID: RunID
    ) throws -> [String: String] {
        var models: [String: String] = [:]
        let chunks = TensorChunk.divide(state)
        for (index, chunk) in chunks.enumerated() {
            models = try requestBlocking(
                DiscriminatorRestore(
                    version: version, chunkIndex: index, chunkCount: chunks.count, runID: runID, chunk: chunk),
                deadline: Self.chunkDeadline
            ).models
        }
        return models
    }

    /// Asks for one chunk after the other, from the first.
    private func assembled(_ first: some ChunkRequest) throws -> TensorSet {
        var request = first
        var reply = try requestBlocking(request, deadline: Self.chunkDeadline)
        var assembler = TensorAssembler(chunkCount: reply.chunkCount)
        try assembler.add(reply.chunk, index: 0)
        while assembler.nextIndex < assembler.chunkCount {
            request.chunkIndex = assembler.nextIndex
            reply = try requestBlocking(request, deadline: Self.chunkDeadline)
            guard reply.chunkCount == assembler.chunkCount else {
                throw WireError(
                    .invalidValue, "chunkCount was \(assembler.chunkCount) and is \(reply.chunkCount)",
                    remedy: "ask again from chunk 0")
            }
            try assembler.add(reply.chunk, index: request.chunkIndex)
        }
        return try assembler.assembled()
    }
}
