import AdvGRPO
import ComputeRoles
import Configuration
import Foundation
import MethodModels
import NeuralNetworks
import Protocol
import RewardServer
import TensorCore

/// The epochs of a run with one group each, on one machine without messages: every phase calls what the role calls.
///
/// - `sample`: a worker takes over the policy's newest parameters and samples (`DiffusionPolicy.sampling`, `Rollout.sample`).
/// - `decode`: it decodes and rounds to 8 bits (`DiffusionPolicy.images`, `Tensor.levels`).
/// - `score`, `discriminator`: the reward server's own `CurrentDiscriminator` answers.
/// - `policy`: the learner's part of the method (`PolicyUpdate`).
struct BenchEpoch {
    let engine: any Engine
    private let settings: Settings
    private let policy: DiffusionPolicy
    private let rollout: Rollout
    private let chunks: Chunks
    private let lanes: Lanes
    private let prompt: PromptConditioning
    private let update: PolicyUpdate
    private var state: PolicyState
    private var discriminator: CurrentDiscriminator
    private var discriminatorVersion = DiscriminatorVersion(rawValue: 0)
    private var number = 0
    private var sampled: RolloutSample?
    private var images: TensorPayload?
    private var scores: Scores?

    /// Loads the models and an untrained discriminator.
    ///
    /// - Throws: `ModelError`, `SafeTensorsError`, `DatasetError`, `CommandFailure` naming the file or key.
    init(
        _ work: BenchWork, _ manner: BenchReport.Manner, engine: any Engine, references: BenchReferences
    ) throws {
        self.engine = engine
        lanes = manner.lanes
        let settings = try work.settings(manner, references: references)
        self.settings = settings
        let (method, seed) = (settings.method, UInt64(settings.seed))
        policy = try DiffusionPolicy(
            PolicySource(path: settings.model, engine: engine, dtype: manner.precision.dtype), settings: method.policy,
            seed: seed, withTextEncoder: false)
        rollout = try policy.rollout(method.rollout, seed: seed)
        chunks = Chunks(size: manner.chunk)
        func conditioning(_ branch: Int) -> Conditioning {
            func noise(_ shape: [Int], _ part: Int) -> Tensor {
                let normals = Philox(seed: seed, purpose: .evaluation, branch, part).normals(shape.reduce(1, *))
                return engine.tensor(normals, shape: shape, dtype: .float32)
            }
            return Conditioning(
                text_BSD: noise([1, work.textTokens, work.policy.textWidth], 0),
                pooled_BP: noise([1, work.policy.pooledWidth], 1))
        }
        prompt = PromptConditioning(positive: conditioning(1), negative: conditioning(0))
        update = PolicyUpdate(settings: method.policy, rollout: rollout, chunks: chunks)
        state = PolicyState(parameters: policy.initialParameters, settings: method.policy)
        discriminator = CurrentDiscriminator(scorer: try Scorer(settings: settings, engine: engine))
        guard let run = RunID(rawValue: "bench"), let nothing = TensorChunk.divide(TensorSet()).first else {
            preconditionFailure("bench: no run to restore the discriminator of")
        }
        _ = try discriminator.restore(
            DiscriminatorRestore(
                version: discriminatorVersion, chunkIndex: 0, chunkCount: 1, runID: run, chunk: nothing))
    }

    /// Does one phase of the current epoch with what the phases before it left.
    ///
    /// - Throws: what the roles' code throws.
    mutating func run(_ phase: BenchPhase) throws {
        let group = GroupID(epoch: number, index: 0)
        switch phase {
        case .sample:
            let sampling = try policy.sampling(state.parameters)
            sampled = try rollout.sample(
                group, prompt: prompt, engine: engine, chunks: chunks, lanes: lanes, velocity: sampling.velocity,
                windowVelocity: sampling.windowVelocity)
        case .decode:
            let latents = try made(sampled).finalLatents_BCHW
            let decoded = policy.images(latents, lanes: lanes)
            images = TensorPayload(uint8s: decoded.levels(), shape: decoded.shape)
        case .score:
            scores = try discriminator.score(
                ScoreRequest(
                    group: group, prompt: BenchWork.prompt, images: try made(images)))
        case .discriminator:
            discriminatorVersion = try discriminator.train(
                DiscriminatorTraining(
                    epoch: number, fromVersion: discriminatorVersion, groups: [group],
                    steps: settings.method.discriminator.stepsPerTraining)
            ).version
        case .policy:
            let scored = ScoredGroup(
                group: group, prompt: prompt, trajectory: try made(sampled).trajectory,
                rewards: try made(scores).rewards.floats)
            let advantages = Advantages(
                rewards: [scored.rewards], deviation: settings.method.policy.advantageStandardDeviation)
            _ = try update(
                &state, groups: [scored], advantages: advantages, policy: policy.trainable, lanes: lanes)
        }
    }

    /// The next phases belong to the next epoch.
    mutating func finish() { number += 1 }

    private func made<Value>(_ value: Value?) throws -> Value {
        guard let value else { throw CommandFailure("a phase ran before the phase that it needs") }
        return value
    }
}
