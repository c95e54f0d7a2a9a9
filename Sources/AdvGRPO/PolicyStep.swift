public import NeuralNetworks
internal import TensorCore

/// The policy at its trained parameters, ready to have gradients taken: merged and packed once, however many are taken.
public struct TrackedPolicy: Sendable {
    /// The trained parameters, fp32, as leaves of the gradient's graph.
    public let leaves: Parameters
    /// The velocity of these leaves.
    public let velocity: VelocityFunction
    /// The velocity without adapter, from which the KL term measures; nil where there is none.
    public let reference: VelocityFunction?

    /// - Parameters: as the properties; `velocity` is made of `leaves`.
    public init(leaves: Parameters, velocity: @escaping VelocityFunction, reference: VelocityFunction?) {
        self.leaves = leaves
        self.velocity = velocity
        self.reference = reference
    }
}

extension TrainablePolicy {
    /// The policy at these parameters.
    func tracked(at parameters: Parameters) -> TrackedPolicy {
        let leaves = parameters.tracked()
        return TrackedPolicy(leaves: leaves, velocity: velocity(leaves), reference: reference)
    }
}

extension TrackedPolicy {
    /// Gradients of pieces of work, handed over in the order of the pieces whoever computed them.
    ///
    /// - Parameters:
    ///   - count: of the pieces.
    ///   - lanes: threads of the pieces; the gradients do not depend on how many there are.
    ///   - loss: a piece's part of the loss, a scalar, and what else is noted of it.
    ///   - progress: called with the number of pieces done since the last call.
    ///   - each: called in the pieces' order with each one's gradient and note.
    func gradients<Note: Sendable>(
        ofPieces count: Int, lanes: Lanes,
        loss: @escaping @Sendable (_ piece: Int) throws -> (loss: Tensor, note: Note),
        progress: (Int) -> Void = { _ in }, each: (_ piece: Int, Parameters, Note) throws -> Void
    ) rethrows {
        for wave in Chunks(size: lanes.count).ranges(count) {
            let results = try lanes.map(wave.count) { [leaves] offset in
                let (loss, note) = try loss(wave.lowerBound + offset)
                return (leaves.gradients(from: loss.gradients()), note)
            }
            for ((gradient, note), piece) in zip(results, wave) { try each(piece, gradient, note) }
            progress(wave.count)
        }
    }
}

extension PolicyState {
    /// One optimiser step: the gradient clipped to a global norm, then AdamW, then the average.
    ///
    /// - Parameter subject: what the gradient is of, for the message.
    /// - Returns: the gradient's norm before clipping.
    /// - Throws: `NumericalFailure` for a gradient that is not finite; the policy is then unchanged.
    mutating func descend(
        along gradient: Parameters, maximumNorm: Double, _ subject: @autoclosure () -> String
    ) throws(NumericalFailure) -> Double {
        let (clipped, norm) = gradient.clipped(toNorm: maximumNorm)
        guard norm.isFinite else {
            throw NumericalFailure(
                "not finite: gradient of the policy, \(subject()), update \(optimizer.updateCount + 1)")
        }
        parameters = optimizer.update(parameters, gradients: clipped)
        average.follow(parameters)
        return norm
    }
}
