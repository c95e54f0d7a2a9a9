/// Asks the learner for one chunk of a policy's weights.
public struct WeightsRequest: ChunkRequest {
    public typealias Reply = WeightsChunk
    public static let kind = MessageKind.weightsRequest

    /// The policy wanted.
    public var policyVersion: PolicyVersion
    /// The chunk wanted, from 0.
    public var chunkIndex: Int

    /// Makes the message.
    public init(policyVersion: PolicyVersion, chunkIndex: Int) {
        self.policyVersion = policyVersion
        self.chunkIndex = chunkIndex
    }
}

/// One chunk of a policy's weights; `TensorAssembler` puts chunks together.
public struct WeightsChunk: ChunkMessage {
    public static let kind = MessageKind.weightsChunk

    /// The policy.
    public var policyVersion: PolicyVersion
    /// Which chunk this is, from 0.
    public var chunkIndex: Int
    /// How many there are.
    public var chunkCount: Int
    /// Digest of the whole weights, to be compared after assembly.
    public var digest: WeightsDigest
    /// Present when the only tensor of this chunk is a part of a larger one.
    public var part: TensorPart?
    /// Some of the policy's trained tensors, under their names.
    public var tensors: TensorSet

    /// Makes the message.
    public init(
        policyVersion: PolicyVersion, chunkIndex: Int, chunkCount: Int, digest: WeightsDigest, chunk: TensorChunk
    ) {
        self.policyVersion = policyVersion
        self.chunkIndex = chunkIndex
        self.chunkCount = chunkCount
        self.digest = digest
        part = chunk.part
        tensors = chunk.tensors
    }
}
