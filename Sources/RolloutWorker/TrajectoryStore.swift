import ComputeRoles
import Protocol
import Transport
import WeightsTransfer

/// Trajectories that gradients are made of: of the groups that this worker sampled, and of those that it was given since. One
/// that is not here is asked of the learner.
final class TrajectoryStore {
    /// What is kept at most; the oldest go.
    static let keptByteCount = 512 << 20

    private let learner: Client
    private var kept: [(digest: ContentDigest, tensors: TensorSet)] = []
    private var byteCount = 0

    init(learner: Client) { self.learner = learner }

    /// Keeps a group's trajectory.
    func keep(_ trajectory: GroupResult.Trajectory) {
        let tensors = trajectory.tensors
        keep(tensors, ContentDigest(of: tensors))
    }

    /// A trajectory by its digest. Blocks the calling thread.
    ///
    /// - Throws: `staleVersion` when the learner has no task for it any more, `wrongBytes`, `WireError` for what is no trajectory,
    ///   `TransportError`.
    func trajectory(_ digest: ContentDigest, patience: Duration) throws -> GroupResult.Trajectory {
        if let known = kept.first(where: { $0.digest == digest }) { return try GroupResult.Trajectory(known.tensors) }
        let tensors = try learner.requestBlocking(ContentRequest(content: digest), deadline: patience).tensors
        let actual = ContentDigest(of: tensors)
        guard actual == digest else {
            throw Failure(
                code: .wrongBytes, message: "\(learner.endpoint) sent a content of digest \(actual) as \(digest)",
                remedy: "look after that machine's memory and network, or who runs it")
        }
        let trajectory = try GroupResult.Trajectory(tensors)
        // For the epoch's other optimiser steps.
        keep(tensors, digest)
        return trajectory
    }

    private func keep(_ tensors: TensorSet, _ digest: ContentDigest) {
        kept.removeAll { $0.digest == digest }
        kept.append((digest, tensors))
        byteCount = kept.reduce(0) { $0 + $1.tensors.byteCount }
        while byteCount > Self.keptByteCount, kept.count > 1 { byteCount -= kept.removeFirst().tensors.byteCount }
    }
}
