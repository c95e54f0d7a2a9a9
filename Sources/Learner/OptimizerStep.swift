import AdvGRPO
import ComputeRoles
import NeuralNetworks
import Protocol
import SafeTensors
import WeightsTransfer

/// One optimiser step of the policy while workers make its gradients: what they are made of, and those that wait to be added.
struct OptimizerStep: Sendable {
    /// What one group's gradient is made of.
    struct Parts: Sendable {
        /// [M], or [M, rows, columns] of tokens, clamped.
        var advantages: TensorPayload
        /// Digest of the group's trajectory.
        var trajectory: ContentDigest
    }

    /// What the gradients are taken at.
    let weights: PublishedWeights
    /// Members times window steps of all groups.
    let sampleCount: Int
    /// By group.
    let groups: [GroupID: Parts]
    /// Trajectories, for workers that do not hold them.
    let contents: [ContentDigest: TensorSet]
    /// Gradients that are here and not added up yet.
    var arrived: [GroupID: GradientResult] = [:]

    /// What gradients that wait for others before them may occupy, and those that are being made with them.
    private static let waitingByteCount = 1 << 30

    /// How many gradients of these parameters may be out or wait at a time.
    static func window(of parameters: Parameters) -> Int { max(1, waitingByteCount / max(1, parameters.byteCount)) }

    /// Whether a gradient of these parameters fits into a message: all but those of large networks that are trained whole do.
    static func canHold(_ parameters: Parameters) -> Bool {
        let limits = WireLimits.standard
        return parameters.byteCount <= limits.dataByteCount && parameters.count <= limits.tensors.tensorCount
    }

    /// - Parameters:
    ///   - weights: what the gradients are taken at.
    ///   - groups: of the step, each with its advantages, one a member or token.
    init(_ weights: PublishedWeights, _ groups: [(result: GroupResult, advantages: [Float])]) {
        self.weights = weights
        var (parts, contents) = ([GroupID: Parts](), [ContentDigest: TensorSet]())
        for (result, advantages) in groups {
            let trajectory = result.trajectory.tensors
            let digest = ContentDigest(of: trajectory)
            let shape = result.logProbabilities.shape
            parts[result.group] = Parts(
                advantages: TensorPayload(floats: advantages, shape: [shape[0]] + shape.dropFirst(2)),
                trajectory: digest)
            contents[digest] = trajectory
        }
        sampleCount = groups.reduce(0) { $0 + $1.result.logProbabilities.shape.prefix(2).reduce(1, *) }
        (self.groups, self.contents) = (parts, contents)
    }
}

extension GradientResult {
    /// Why the gradient cannot be added up, naming the worker, whoever made it of what; nil when it can.
    ///
    /// Takes as long as reading all of it, so nobody waits for it.
    ///
    /// - Parameter shapes: of the trained parameters, by name.
    func defect(_ contract: RunContract, _ shapes: [String: [Int]], _ rollout: Rollout) -> String? {
        do throws(Failure) {
            try contract.check(self, shapes, rollout)
        } catch {
            return "worker \(worker): \(error.message)"
        }
        let actual = ContentDigest(of: tensors)
        guard actual == digest else {
            return "worker \(worker) sent \(task) of digest \(actual) as \(digest)"
        }
        return nil
    }
}
