import SafeTensors

/// What is logged of a group's gradient: sums over its samples and window steps.
public struct GradientStatistics: Sendable, Equatable, Codable {
    /// How far the ratios of one step of the schedule are from 1.
    public struct Drift: Sendable, Equatable, Codable {
        /// The step's number in the schedule.
        public var step: Int
        /// Sum of |ℓ_θ - ℓ_old|.
        public var sum: Double
        /// Of how many.
        public var count: Int

        /// Makes it.
        public init(step: Int, sum: Double, count: Int) {
            self.step = step
            self.sum = sum
            self.count = count
        }
    }

    /// Samples times window steps.
    public var sampleCount: Int
    /// Ratios: as many, or one a token.
    public var ratioCount: Int
    /// Sums of the losses and of the squared distances to the reference policy.
    public var loss: Double, distance: Double
    /// Sums of (ℓ_θ - ℓ_old)² and of the ratios.
    public var squaredChange: Double, ratio: Double
    /// Ratios above and below the clip's range.
    public var above: Int, below: Int
    /// Smallest and largest ratio.
    public var smallestRatio: Double, largestRatio: Double
    /// Of every window step, in order.
    public var drifts: [Drift]

    /// Makes them.
    public init(
        sampleCount: Int, ratioCount: Int, loss: Double, distance: Double, squaredChange: Double, ratio: Double,
        above: Int, below: Int, smallestRatio: Double, largestRatio: Double, drifts: [Drift]
    ) {
        self.sampleCount = sampleCount
        self.ratioCount = ratioCount
        self.loss = loss
        self.distance = distance
        self.squaredChange = squaredChange
        self.ratio = ratio
        self.above = above
        self.below = below
        self.smallestRatio = smallestRatio
        self.largestRatio = largestRatio
        self.drifts = drifts
    }

    /// Counts are possible ones and numbers finite.
    func validate() throws(WireError) {
        let counts = [
            ("sampleCount", sampleCount), ("ratioCount", ratioCount), ("above", above), ("below", below),
        ]
        for (name, count) in counts { try Check.number(count, "statistics.\(name)", 0...1 << 40) }
        let numbers = [
            ("loss", loss), ("distance", distance), ("squaredChange", squaredChange), ("ratio", ratio),
            ("smallestRatio", smallestRatio), ("largestRatio", largestRatio),
        ]
        for (name, number) in numbers { try Check.finite(number, "statistics.\(name)") }
        try Check.number(drifts.count, "the number of statistics.drifts", 0...4096)
        for drift in drifts {
            try Check.number(drift.step, "statistics.drifts.step", 0...1 << 20)
            try Check.number(drift.count, "statistics.drifts.count", 0...1 << 40)
            try Check.finite(drift.sum, "statistics.drifts.sum")
        }
    }
}

/// Brings a group's gradient of one optimiser step to the learner.
public struct GradientResult: WireRequest {
    public typealias Reply = TaskAcknowledgement
    public static let kind = MessageKind.gradientResult

    /// Name of the worker.
    public var worker: String
    /// The lease it worked under.
    public var leaseID: LeaseID
    /// The group.
    public var group: GroupID
    /// Of which of the epoch's optimiser steps, from 0.
    public var update: Int
    /// The policy that was executed.
    public var policyVersion: PolicyVersion
    /// Digest of the weights that were executed.
    public var weightsDigest: WeightsDigest
    /// Digest of the gradient as the worker made it.
    public var digest: ContentDigest
    /// Ratios, clipping, loss.
    public var statistics: GradientStatistics
    /// Seconds spent, by phase.
    public var seconds: [String: Double]
    /// F32, finite, by the names of the trained parameters.
    public var tensors: TensorSet

    /// What came of a lease.
    ///
    /// - Parameters:
    ///   - lease: group and weights, which are those that were executed.
    ///   - order: the lease's.
    ///   - worker: its name.
    ///   - gradient: by the names of the trained parameters.
    ///   - digest: of `gradient`.
    ///   - statistics: ratios, clipping, loss.
    ///   - seconds: spent, by phase.
    public init(
        of lease: Lease, _ order: GradientOrder, by worker: String, gradient: TensorSet, digest: ContentDigest,
        statistics: GradientStatistics, seconds: [String: Double]
    ) {
        self.worker = worker
        leaseID = lease.leaseID
        group = lease.group
        update = order.update
        policyVersion = lease.weights.version
        weightsDigest = lease.weights.digest
        self.digest = digest
        self.statistics = statistics
        self.seconds = seconds
        tensors = gradient
    }

    /// The task.
    public var task: TaskID { .gradient(group, update: update) }

    /// Tensors are F32 and finite, counts are possible ones.
    public func validate() throws(WireError) {
        try Check.name(worker, "worker")
        try Check.number(update, "update", TaskID.updates.lowerBound...TaskID.updates.upperBound - 1)
        try statistics.validate()
        try Check.names(seconds.keys, "seconds", limit: 64)
        for (phase, value) in seconds { try Check.seconds(value, "seconds.\(phase)") }
        for name in tensors.names {
            guard let tensor = tensors[name], tensor.dtype == .float32 else {
                throw WireError(
                    .invalidValue,
                    "tensor \(name.prefix(80)) is \(tensors[name]?.dtype.rawValue ?? "missing"), expected F32")
            }
            try Check.finite(tensor, name)
        }
    }
}

/// Asks for a set of tensors by its digest: what a task is made of and the worker does not hold.
public struct ContentRequest: WireRequest {
    public typealias Reply = Content
    public static let kind = MessageKind.contentRequest

    /// Digest of the set.
    public var content: ContentDigest

    /// Makes the message.
    public init(content: ContentDigest) { self.content = content }
}

/// A set of tensors; the receiver compares its digest.
public struct Content: WireMessage {
    public static let kind = MessageKind.content

    /// The set.
    public var tensors: TensorSet

    /// Makes the message.
    public init(_ tensors: TensorSet) { self.tensors = tensors }
}
