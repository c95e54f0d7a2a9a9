/// Tells the reward server which epoch is sampled from now on: only groups of it are scored.
public struct EpochOpening: WireRequest {
    public typealias Reply = EpochOpened
    public static let kind = MessageKind.epochOpening

    /// The epoch.
    public var epoch: Int

    /// Makes the message.
    public init(epoch: Int) { self.epoch = epoch }

    /// The epoch is one.
    public func validate() throws(WireError) { try Check.number(epoch, "epoch", ClosedRange(GroupID.epochs)) }
}

/// The reward server scores the epoch's groups after this reply.
public struct EpochOpened: WireMessage {
    public static let kind = MessageKind.epochOpened
    /// Makes the message.
    public init() {}
}

/// Tells the reward server to train the discriminator on the groups of one epoch.
public struct DiscriminatorTraining: WireRequest {
    public typealias Reply = DiscriminatorTrained
    public static let kind = MessageKind.discriminatorTraining

    /// The epoch.
    public var epoch: Int
    /// The version to start from; training from another is refused, training again from the same answers as before.
    public var fromVersion: DiscriminatorVersion
    /// The groups whose images are the fakes.
    public var groups: [GroupID]
    /// Number of optimiser steps.
    public var steps: Int

    /// Makes the message.
    public init(epoch: Int, fromVersion: DiscriminatorVersion, groups: [GroupID], steps: Int) {
        self.epoch = epoch
        self.fromVersion = fromVersion
        self.groups = groups
        self.steps = steps
    }

    /// Different groups of the epoch, at least one; a number of steps that ends.
    public func validate() throws(WireError) {
        try Check.number(epoch, "epoch", ClosedRange(GroupID.epochs))
        try Check.number(steps, "steps", Check.steps)
        guard !groups.isEmpty, Set(groups).count == groups.count else {
            throw WireError(.invalidValue, "groups names \(groups.isEmpty ? "none" : "a group twice")")
        }
        if let other = groups.first(where: { $0.epoch != epoch }) {
            throw WireError(.invalidValue, "groups names \(other), which is not of epoch \(epoch)")
        }
    }
}

/// What a training of the discriminator gave: what the schedule decides by, and figures for people.
public struct DiscriminatorTrained: WireMessage {
    public static let kind = MessageKind.discriminatorTrained

    /// The version now in service.
    public var version: DiscriminatorVersion
    /// Mean score of reference images.
    public var realMean: Double
    /// Mean score of generated images.
    public var fakeMean: Double
    /// Area under the ROC curve, 0 to 1.
    public var auc: Double
    /// Any other figures by name, all beginning with `discriminator.`; nil stands for one that is not finite. None where
    /// nothing was trained.
    public var metrics: [String: Double?]

    /// Makes the message.
    public init(
        version: DiscriminatorVersion, realMean: Double, fakeMean: Double, auc: Double, metrics: [String: Double?] = [:]
    ) {
        self.version = version
        self.realMean = realMean
        self.fakeMean = fakeMean
        self.auc = auc
        self.metrics = metrics
    }

    /// Numbers are finite, a share is one; the figures are few and have names of the discriminator's.
    public func validate() throws(WireError) {
        try Check.finite(realMean, "realMean")
        try Check.finite(fakeMean, "fakeMean")
        try Check.share(auc, "auc")
        try Check.metrics(metrics, "metrics", prefix: "discriminator.")
    }
}

/// Asks the reward server for one chunk of everything a snapshot needs of it.
public struct DiscriminatorStateRequest: ChunkRequest {
    public typealias Reply = DiscriminatorState
    public static let kind = MessageKind.discriminatorStateRequest

    /// The version wanted.
    public var version: DiscriminatorVersion
    /// The chunk wanted, from 0.
    public var chunkIndex: Int

    /// Makes the message.
    public init(version: DiscriminatorVersion, chunkIndex: Int) {
        self.version = version
        self.chunkIndex = chunkIndex
    }
}

/// One chunk of the reward server's state; `TensorAssembler` puts chunks together.
public struct DiscriminatorState: ChunkMessage {
    public static let kind = MessageKind.discriminatorState

    /// The version.
    public var version: DiscriminatorVersion
    /// Which chunk this is, from 0.
    public var chunkIndex: Int
    /// How many there are.
    public var chunkCount: Int
    /// Present when the only tensor of this chunk is a part of a larger one.
    public var part: TensorPart?
    /// Some of the state's tensors, under their names.
    public var tensors: TensorSet

    /// Makes the message.
    public init(version: DiscriminatorVersion, chunkIndex: Int, chunkCount: Int, chunk: TensorChunk) {
        self.version = version
        self.chunkIndex = chunkIndex
        self.chunkCount = chunkCount
        part = chunk.part
        tensors = chunk.tensors
    }
}

/// Gives the reward server one chunk of a state to go on from; it takes effect with the last chunk.
public struct DiscriminatorRestore: ChunkMessage, WireRequest {
    public typealias Reply = DiscriminatorRestored
    public static let kind = MessageKind.discriminatorRestore

    /// The version the state has.
    public var version: DiscriminatorVersion
    /// Which chunk this is, from 0.
    public var chunkIndex: Int
    /// How many there are.
    public var chunkCount: Int
    /// The run the reward server belongs to from now on.
    public var runID: RunID
    /// Present when the only tensor of this chunk is a part of a larger one.
    public var part: TensorPart?
    /// Some of the state's tensors, under their names.
    public var tensors: TensorSet

    /// Makes the message.
    public init(
        version: DiscriminatorVersion, chunkIndex: Int, chunkCount: Int, runID: RunID, chunk: TensorChunk
    ) {
        self.version = version
        self.chunkIndex = chunkIndex
        self.chunkCount = chunkCount
        self.runID = runID
        part = chunk.part
        tensors = chunk.tensors
    }
}

/// The reward server's answer to a chunk of state.
public struct DiscriminatorRestored: WireMessage {
    public static let kind = MessageKind.discriminatorRestored

    /// The version in service: the restored one once all chunks came.
    public var version: DiscriminatorVersion
    /// Digests of the models that scores come from, by their part of the run: `rewardBackbone`, `rewardModels.pickscore`, ...
    public var models: [String: String]

    /// Makes the message.
    public init(version: DiscriminatorVersion, models: [String: String]) {
        self.version = version
        self.models = models
    }

    /// There are at most 64 models.
    public func validate() throws(WireError) { try Check.models(models) }
}
