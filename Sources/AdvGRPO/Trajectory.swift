public import TensorCore

/// What the policy update needs of a rollout: the latents around every step of the window and the log-probability of each.
public struct Trajectory: Sendable {
    /// The schedule's index of every window step.
    public let stepIndices: [Int]
    /// Latents before the window and after each of its steps, fp32 [B, W + 1, C, H, W].
    public let latents: Tensor
    /// Log-probability of each window step under the policy that took it, fp32 [B, W]; of each of its tokens where tokens have
    /// advantages, fp32 [B, W, rows, columns].
    public let logProbabilities: Tensor

    /// - Precondition: the shapes belong together.
    public init(stepIndices: [Int], latents: Tensor, logProbabilities: Tensor) {
        precondition(
            latents.rank == 5 && latents.shape[1] == stepIndices.count + 1
                && logProbabilities.shape.prefix(2) == [latents.shape[0], stepIndices.count]
                && [2, 4].contains(logProbabilities.rank),
            "trajectory: \(stepIndices.count) steps, latents \(latents.shape), log-probabilities \(logProbabilities.shape)"
        )
        self.stepIndices = stepIndices
        self.latents = latents
        self.logProbabilities = logProbabilities
    }

    /// Members of the group held here.
    public var memberCount: Int { latents.shape[0] }

    /// Places of the tokens that have log-probabilities of their own; nil where an image has one.
    public var tokens: PatchGrid? {
        let shape = logProbabilities.shape
        return shape.count == 4 ? PatchGrid(rows: shape[2], columns: shape[3]) : nil
    }

    /// Latents before window step `step` (0..<W), or after the last one (W): [B, C, H, W].
    public func latents(before step: Int) -> Tensor {
        latents.sliced(axis: 1, step..<step + 1).reshaped([memberCount] + latents.shape.dropFirst(2))
    }

    /// ℓ_old of window step `step`: [B], or [B, rows, columns] of tokens.
    public func logProbability(_ step: Int) -> Tensor {
        logProbabilities.sliced(axis: 1, step..<step + 1)
            .reshaped([memberCount] + logProbabilities.shape.dropFirst(2))
    }

    /// Some of the members.
    public func members(_ range: Range<Int>) -> Trajectory {
        Trajectory(
            stepIndices: stepIndices, latents: latents.rows(range), logProbabilities: logProbabilities.rows(range))
    }

    /// Parts of one group, members in order.
    ///
    /// - Precondition: at least one part; all have the same window.
    public init(joining parts: [Trajectory]) {
        precondition(
            !parts.isEmpty && parts.allSatisfy { $0.stepIndices == parts[0].stepIndices },
            "trajectories of several windows")
        self.init(
            stepIndices: parts[0].stepIndices, latents: concatenated(parts.map(\.latents), axis: 0),
            logProbabilities: concatenated(parts.map(\.logProbabilities), axis: 0))
    }
}

/// A number that is not finite, at one of the fixed points where that is checked. Nothing computed from it is published.
public struct NumericalFailure: Error, Sendable, Equatable, CustomStringConvertible {
    /// What was computed, where, and from which seed.
    public let description: String

    init(_ description: String) { self.description = description }

    /// Throws when an element is NaN or infinite.
    public static func check(_ x: Tensor, _ description: @autoclosure () -> String) throws(NumericalFailure) {
        guard x.engine.sumOfSquares(x.detached).isFinite else { throw NumericalFailure("not finite: " + description()) }
    }
}

/// The cut of a sequence of samples into pieces that one thread computes: equal sizes, the last may be smaller.
///
/// Sizes come from the settings and never from the number of threads or workers, because kernels may change their
/// summation order with the shape.
public struct Chunks: Sendable, Equatable {
    /// Samples of a piece.
    public let size: Int

    /// - Parameter size: at least 1.
    public init(size: Int) {
        precondition(size >= 1, "chunks of \(size)")
        self.size = size
    }

    /// The pieces of `count` samples, in order.
    public func ranges(_ count: Int) -> [Range<Int>] {
        stride(from: 0, to: count, by: size).map { $0..<min($0 + size, count) }
    }
}
