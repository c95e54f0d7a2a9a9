import AdvGRPO
import NeuralNetworks
import TensorCore
import TestSupport
import Testing

/// A policy small enough to follow by hand: v = w · x (element-wise) + 0.1 · mean(text) + timestep / 1000.
func toyVelocity(_ weight: Tensor) -> VelocityFunction {
    { x, timesteps, conditioning in
        let rows = x.reshaped(x.shape[0], -1)
        let ones = x.engine.tensor([Float](repeating: 1, count: rows.count), shape: rows.shape)
        let text = ones.scaledRows(by: conditioning.text_BSD.meanPerSample() * 0.1)
        let times = ones.scaledRows(by: x.engine.tensor(timesteps.map { $0 / 1000 }, shape: [timesteps.count]))
        return (rows * weight + text + times).reshaped(x.shape)
    }
}

let toyPrompt = PromptConditioning(
    positive: Conditioning(
        text_BSD: engine.tensor([1, 2], shape: [1, 2, 1]), pooled_BP: engine.tensor([1], shape: [1, 1])),
    negative: Conditioning(
        text_BSD: engine.tensor([0, -1], shape: [1, 2, 1]), pooled_BP: engine.tensor([0], shape: [1, 1])))

func toyRollout(_ change: (inout RolloutSettings) -> Void = { _ in }) throws -> Rollout {
    var settings = RolloutSettings(fidelity: .fixed)
    settings.groupSize = 6
    settings.window = WindowSettings(size: 2, start: .fixed(1))
    change(&settings)
    return Rollout(settings: settings, sigmas: try tenSteps(), latentShape: [2, 3, 3], seed: 7)
}

let toyWeight = engine.tensor(normals(18, 8).map { $0 * 0.3 }, shape: [18])

@Suite("rollout")
struct RolloutTests {
    @Test("chunks and threads do not change an image", arguments: [(1, 1), (2, 2), (4, 2), (6, 1)], [false, true])
    func chunking(sizeAndThreads: (Int, Int), branches: Bool) throws {
        let (size, threads) = sizeAndThreads
        let rollout = try toyRollout { $0.sharedInitialNoise = branches ? .branch : .none }
        let group = GroupID(epoch: 3, index: 2)
        let velocity = toyVelocity(toyWeight)
        let whole = try rollout.sample(group, members: 0..<6, prompt: toyPrompt, engine: engine, velocity: velocity)
        let parts = try rollout.sample(
            group, prompt: toyPrompt, engine: engine, chunks: Chunks(size: size), lanes: Lanes(count: threads),
            velocity: velocity)
        #expect(parts.finalLatents_BCHW.values == whole.finalLatents_BCHW.values)
        #expect(parts.trajectory.latents.values == whole.trajectory.latents.values)
        #expect(parts.trajectory.logProbabilities.values == whole.trajectory.logProbabilities.values)
    }

    @Test("the window's latents are stored around each step, and its log-probabilities belong to them")
    func window() throws {
        let rollout = try toyRollout()
        let group = GroupID(epoch: 0, index: 0)
        let velocity = toyVelocity(toyWeight)
        let sample = try rollout.sample(group, members: 0..<3, prompt: toyPrompt, engine: engine, velocity: velocity)
        let trajectory = sample.trajectory
        #expect(trajectory.stepIndices == [1, 2])
        #expect(trajectory.latents.shape == [3, 3, 2, 3, 3])
        for (j, index) in trajectory.stepIndices.enumerated() {
            let step = rollout.step(index, windowStart: 1)
            let x = trajectory.latents(before: j)
            let v = rollout.guidance(x, timestep: step.timestep, prompt: toyPrompt, velocity: velocity)
            let value = step.logProbability(
                of: trajectory.latents(before: j + 1), mean: step.mean(x, velocity_BCHW: v))
            #expect(value.values == trajectory.logProbability(j).values)
        }
        // step 0 and steps 3... are Euler steps
        let first = rollout.initialLatents(group, members: 0..<3, engine: engine)
        func euler(_ x: Tensor, _ index: Int) -> Tensor {
            let step = FlowStep(index, of: rollout.sigmas)
            let v = rollout.guidance(x, timestep: step.timestep, prompt: toyPrompt, velocity: velocity)
            return step.mean(x, velocity_BCHW: v)
        }
        #expect(euler(first, 0).values == trajectory.latents(before: 0).values)
        let last = (3..<10).reduce(trajectory.latents(before: 2)) { euler($0, $1) }
        #expect(last.values == sample.finalLatents_BCHW.values)
    }

    @Test("images of a branching group part at the window, not before", arguments: [0, 2])
    func branch(start: Int) throws {
        let rollout = try toyRollout {
            $0.sharedInitialNoise = .branch
            $0.window.start = .fixed(start)
        }
        let (group, velocity) = (GroupID(epoch: 1, index: 4), toyVelocity(toyWeight))
        let sample = try rollout.sample(
            group, members: 0..<4, prompt: toyPrompt, engine: engine, velocity: velocity)
        let before = sample.trajectory.latents(before: 0)
        // Euler steps from the first member's noise
        let stem = (0..<start).reduce(rollout.initialLatents(group, members: 0..<1, engine: engine)) { x, index in
            let step = FlowStep(index, of: rollout.sigmas)
            return step.mean(
                x,
                velocity_BCHW: rollout.guidance(x, timestep: step.timestep, prompt: toyPrompt, velocity: velocity))
        }
        for member in 0..<4 { #expect(before.rows(member..<member + 1).values == stem.values) }
        let after = sample.trajectory.latents(before: 1)
        #expect(after.rows(1..<2).values != after.rows(0..<1).values)
    }

    @Test("no two members, steps, groups or epochs share noise")
    func noise() {
        var seen: Set<[Float]> = []
        for epoch in 0..<3 {
            for index in [0, 1, 4095, 4096] {
                for member in [0, 1, 4095] {
                    for step in 0..<2 {
                        let group = GroupID(epoch: epoch, index: index)
                        let stream = group.noise(seed: 1, purpose: .windowNoise, member: member, step: step)
                        #expect(seen.insert(stream.normals(4)).inserted)
                    }
                }
            }
        }
    }

    @Test("a drawn window stays among its candidates and reaches all of them")
    func drawnWindow() throws {
        let rollout = try toyRollout { $0.window.start = .drawn }
        let starts = (0..<200).map { rollout.windowStart(of: GroupID(epoch: $0, index: 1)) }
        #expect(Set(starts) == Set(0...5))
    }

    @Test("a policy that diverges is refused")
    func divergence() throws {
        let rollout = try toyRollout()
        let broken = toyVelocity(engine.tensor([Float](repeating: .nan, count: 18), shape: [18]))
        #expect(throws: NumericalFailure.self) {
            try rollout.sample(
                GroupID(epoch: 0, index: 0), members: 0..<2, prompt: toyPrompt, engine: engine,
                velocity: broken)
        }
    }

    @Test("bf16 latents are bf16 numbers")
    func bfloat16() throws {
        let rollout = try toyRollout { $0.latentPrecision = .bf16 }
        let sample = try rollout.sample(
            GroupID(epoch: 0, index: 0), members: 0..<2, prompt: toyPrompt, engine: engine,
            velocity: toyVelocity(toyWeight))
        let stored = sample.trajectory.latents
        #expect(stored.converted(to: .bfloat16).values == stored.values)
    }
}
