public import Protocol
public import Transport

/// Large sets of tensors, chunk by chunk: the receiver asks for each, so nobody sends more than is wanted and a lost answer
/// costs one chunk. All of these block the calling thread.
extension Client {
    /// Longest wait for one chunk.
    private static let chunkDeadline = Duration.seconds(60)
    /// Largest set that is put together, bytes.
    private static let largestSet = 64 << 30

    /// The weights of a policy version.
    ///
    /// - Throws: `Failure` (`staleVersion` when another version is current by now), `TransportError`, `WireError`.
    public func weights(_ version: PolicyVersion) throws -> TensorSet {
        try assembled { index in
            let answer = try requestBlocking(
                WeightsRequest(policyVersion: version, chunkIndex: index), deadline: Self.chunkDeadline)
            return (answer.chunk, answer.chunkCount)
        }
    }

    /// The state of a discriminator version.
    ///
    /// - Throws: as `weights`.
    public func discriminatorState(_ version: DiscriminatorVersion) throws -> TensorSet {
        try assembled { index in
            let answer = try requestBlocking(
                DiscriminatorStateRequest(version: version, chunkIndex: index), deadline: Self.chunkDeadline)
            return (answer.chunk, answer.chunkCount)
        }
    }

    /// Makes the reward server continue from a state.
    ///
    /// - Throws: as `weights`.
    public func restoreDiscriminator(_ version: DiscriminatorVersion, _ state: TensorSet, runID: RunID) throws {
        let chunks = TensorChunk.divide(state)
        for (index, chunk) in chunks.enumerated() {
            _ = try requestBlocking(
                DiscriminatorRestore(
                    version: version, chunkIndex: index, chunkCount: chunks.count, runID: runID, chunk: chunk),
                deadline: Self.chunkDeadline)
        }
    }

    private func assembled(_ chunk: (Int) throws -> (TensorChunk, count: Int)) throws -> TensorSet {
        let (first, count) = try chunk(0)
        var assembler = TensorAssembler(chunkCount: count, maximumByteCount: Self.largestSet)
        try assembler.add(first, index: 0)
        for index in 1..<max(count, 1) { try assembler.add(try chunk(index).0, index: index) }
        return try assembler.assembled()
    }
}
