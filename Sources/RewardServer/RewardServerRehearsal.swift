import AdvGRPO
public import Configuration
import NeuralNetworks
import Protocol
import SafeTensors
public import TensorCore
import Transport

/// A reward server's computations on an engine that only notes their memory.
public enum RewardServerRehearsal {
    /// Loads the models, scores a group, fills the replay and trains.
    ///
    /// - Parameters:
    ///   - settings: of the run.
    ///   - engine: notes what it is asked for, and computes nothing.
    ///   - epochCount: of the run; it bounds what is kept.
    /// - Returns: bytes of the discriminator's state as it travels to the learner.
    /// - Throws: `ModelError`, `SafeTensorsError`, `DatasetError`, `SettingViolation` naming the file or key.
    public static func run(_ settings: Settings, engine: RehearsalEngine, epochCount: Int) throws -> Int {
        let trace = engine.trace
        // Nothing is computed, so no training would reach what it aims at.
        var aimless = settings
        aimless.method.discriminator.targetAUC = 0
        let scorer = try trace.noting(.weights) { try Scorer(settings: aimless, engine: engine) }
        let method = settings.method
        let references = scorer.references.rehearsed().images(
            discriminator: scorer.untrained, networks: scorer.referenceNetworks, lanes: scorer.lanes)
        var current = CurrentDiscriminator(scorer: scorer, referenceImages: references)
        current.trainer = trace.noting(.training) { scorer.freshTrainer }
        let prompt = scorer.references.prompts[0].text

        // One group as it is scored; the others of the replay and of an epoch only as they are kept.
        let shape = [method.rollout.groupSize, method.rollout.resolution, method.rollout.resolution, 3]
        let byteCount = shape.reduce(1, *)
        func request(_ group: GroupID) -> ScoreRequest {
            ScoreRequest(
                group: group, prompt: prompt,
                images: TensorPayload(uint8s: [UInt8](repeating: 0, count: byteCount), shape: shape))
        }
        // Each worker may have one waiting; of the one at work there are bytes, an array of them, and floats.
        let waiting = trace.holding(byteCount * settings.cluster.workers, .caches)
        trace.passing(6 * byteCount)
        let kept = min(method.discriminator.replayCapacity, method.rollout.groupsPerEpoch * epochCount)
        let pastEpochs = (kept + method.rollout.groupsPerEpoch - 1) / method.rollout.groupsPerEpoch
        let steps = min(2, method.discriminator.stepsPerTraining)
        for epoch in 0...pastEpochs {
            let groups = (0..<method.rollout.groupsPerEpoch).map { GroupID(epoch: epoch, index: $0) }
            if epoch == 0 { _ = try current.score(request(groups[0])) }
            guard let example = current.trainer?.replay.anyFeatures else { continue }
            for group in groups {
                let features = trace.noting(.caches) {
                    FeatureTable(example.tensors.mapValues { engine.zeros($0.shape, dtype: $0.dtype) })
                }
                current.trainer?.remember(
                    group, prompt: prompt, features: features)
            }
            guard method.trainsDiscriminator else { continue }
            _ = try current.train(
                DiscriminatorTraining(
                    epoch: epoch, fromVersion: DiscriminatorVersion(rawValue: epoch), groups: groups,
                    steps: steps))
        }
        let undrawn = unread(settings, scorer.references.prompts, steps: steps, epochs: pastEpochs + 1, of: epochCount)
        current.trainer?.keepTwin()
        let row = try references.features([references.training[0]], .training)
        let rest = trace.noting(.caches) {
            (0..<max(0, undrawn)).map { _ in row.tensors.mapValues { engine.zeros($0.shape) } }
        }
        let stateByteCount = current.trainer?.state.tensors.byteCount ?? 0
        // On its way to the learner's snapshot, and in the socket's memory of what it has answered.
        let snapshots = epochCount / settings.run.snapshotEvery + 1
        let state = trace.holding(
            stateByteCount + min(ServerOptions().keptByteCount(peerCount: 1), stateByteCount * snapshots), .caches)
        _ = try current.score(request(GroupID(epoch: pastEpochs + 1, index: 0)))
        withExtendedLifetime((waiting, state, rest)) {}
        return stateByteCount
    }

    /// References that a run keeps features of and the rehearsal has not read: sooner or later a run has drawn every one, or has
    /// come by every prompt. They are kept as large as one that has been read.
    private static func unread(
        _ settings: Settings, _ prompts: [ReferenceImages.Prompt], steps: Int, epochs: Int, of epochCount: Int
    ) -> Int {
        let method = settings.method
        let drawing = method.discriminator.realBatch
        // A rehearsal generates for the first prompt only.
        let passed = min(prompts.count, method.rollout.groupsPerEpoch * epochCount)
        let own = prompts[..<passed].dropFirst().reduce(0) { $0 + $1.imageCount }
        if drawing == 0 { return own }
        let training = prompts.filter { !$0.isHeldOut }.reduce(0) { $0 + $1.imageCount }
        let drawn = min(training, drawing * method.discriminator.stepLimit * epochCount)
        let undrawn = drawn - drawing * steps * epochs
        return method.reward.weights[.pickScoreAdversarial] > 0 ? max(own, undrawn) : undrawn
    }
}
