internal import NeuralNetworks
internal import TensorCore

/// One optimiser step of the policy from pieces of work: gradients of pieces, added in the order of the pieces whoever computed
/// them, clipped to a global norm, then AdamW, then the average.
struct PolicyStep {
    /// Global norm to which the sum is clipped.
    let maximumGradientNorm: Double
    /// Computes the velocity of trained parameters.
    let policy: TrainablePolicy
    /// Threads of the pieces; the result does not depend on how many there are.
    let lanes: Lanes

    /// Σ over pieces of the gradient of their losses.
    ///
    /// - Parameters:
    ///   - parameters: where.
    ///   - count: of the pieces, at least one.
    ///   - loss: a piece's part of the loss, a scalar, and what else is noted of it.
    ///   - each: called in the pieces' order with each one's gradient and note.
    ///   - progress: called with the number of pieces done since the last call.
    func gradient<Note: Sendable>(
        _ parameters: Parameters, pieces count: Int,
        loss: @escaping @Sendable (_ piece: Int, _ velocity: VelocityFunction) throws -> (loss: Tensor, note: Note),
        each: (_ piece: Int, Parameters, Note) -> Void = { _, _, _ in }, progress: (Int) -> Void = { _ in }
    ) rethrows -> Parameters {
        let leaves = parameters.tracked()
        let velocity = policy.velocity(leaves)
        var sum: Parameters?
        for wave in Chunks(size: lanes.count).ranges(count) {
            let results = try lanes.map(wave.count) { offset in
                let (loss, note) = try loss(wave.lowerBound + offset, velocity)
                return (leaves.gradients(from: loss.gradients()), note)
            }
            for ((gradient, note), piece) in zip(results, wave) {
                sum = sum?.adding(gradient) ?? gradient
                each(piece, gradient, note)
            }
            progress(wave.count)
        }
        guard let sum else { preconditionFailure("a policy step without pieces") }
        return sum
    }

    /// Moves the policy.
    ///
    /// - Parameter subject: what the gradient is of, for the message.
    /// - Returns: the gradient's norm before clipping.
    /// - Throws: `NumericalFailure` for a gradient that is not finite; `state` is then unchanged.
    func descend(
        _ state: inout PolicyState, along gradient: Parameters, _ subject: @autoclosure () -> String
    ) throws(NumericalFailure) -> Double {
        let (clipped, norm) = gradient.clipped(toNorm: maximumGradientNorm)
        guard norm.isFinite else {
            throw NumericalFailure(
                "not finite: gradient of the policy, \(subject()), update \(state.optimizer.updateCount + 1)")
        }
        state.parameters = state.optimizer.update(state.parameters, gradients: clipped)
        state.average.follow(state.parameters)
        return norm
    }
}
