import AdvGRPO
import ComputeRoles
import Configuration
import MethodModels
import NeuralNetworks
import Processes
import Protocol
import SafeTensors
import TensorCore
import TestSupport
import Testing
import WeightsTransfer

@testable import RolloutWorker

/// Gradients as a worker makes them, over real sockets.
@Suite("A worker's gradients", .serialized, .timeLimit(.minutes(2)))
struct GradientWorkTests {
    /// A lease for the gradient of the group that `lease` rolls out.
    private static func gradient(
        _ lease: Lease, _ trajectory: GroupResult.Trajectory, _ advantages: [Float] = [0.75, -0.75],
        update: Int = 0, sampleCount: Int? = nil
    ) -> Lease {
        let samples = trajectory.logProbabilities.shape.reduce(1, *)
        return Lease(
            leaseID: LeaseID(rawValue: 8), group: lease.group, prompt: lease.prompt, memberCount: lease.memberCount,
            weights: lease.weights, expiresInMilliseconds: 60_000,
            gradient: GradientOrder(
                update: update, sampleCount: sampleCount ?? samples,
                trajectory: ContentDigest(of: trajectory.tensors)),
            advantages: TensorPayload(floats: advantages, shape: [advantages.count]))
    }

    /// Has a worker sample its group.
    private func sampled(_ bench: WorkerBench, _ servers: FakeServers) throws -> (Lease, GroupResult.Trajectory) {
        servers.state.withLock { $0.leaseCount = 1 }
        #expect(try bench.run() == .stopped(reason: "enough"))
        return try servers.state.withLock { ($0.lease, try #require($0.results.last).trajectory) }
    }

    @Test(
        "the first ratio of an epoch is exactly 1, and the gradient is the update's own, to the bit, wherever it is made"
    )
    func firstStep() throws {
        try withWorker { (bench, servers) throws in
            let (lease, trajectory) = try sampled(bench, servers)
            // The process that sampled the group is gone; this run is another worker, which asks for the trajectory.
            let order = Self.gradient(lease, trajectory)
            servers.state.withLock {
                $0.contents = [ContentDigest(of: trajectory.tensors): trajectory.tensors]
                ($0.lease, $0.leaseCount) = (order, 1)
            }
            #expect(try bench.run() == .stopped(reason: "enough"))
            #expect(servers.count(.contentRequest) == 1)
            let result = try servers.state.withLock { try #require($0.gradients.last) }
            #expect(result.statistics.smallestRatio == 1 && result.statistics.largestRatio == 1)
            #expect(result.weightsDigest == lease.weights.digest && result.digest == ContentDigest(of: result.tensors))
            let method = bench.settings.method
            let rollout = try bench.policy.rollout(method.rollout, seed: UInt64(bench.settings.seed))
            let parameters = bench.policy.initialParameters
            let shapes = Dictionary(uniqueKeysWithValues: parameters.entries.map { ($0.name, $0.tensor.shape) })
            try RunContract(method).check(result, shapes, rollout)
            // What a run in one process computes.
            let update = PolicyUpdate(
                settings: method.policy, rollout: rollout, chunks: Chunks(size: method.rollout.chunkSize))
            let engine = bench.policy.engine
            let own = try update.gradient(
                of: CreditedGroup(
                    group: lease.group, prompt: try bench.policy.conditioning(lease.prompt),
                    trajectory: Trajectory(
                        stepIndices: trajectory.stepIndices.int32s.map(Int.init),
                        latents: try trajectory.latents.tensor(on: engine),
                        logProbabilities: try trajectory.logProbabilities.tensor(on: engine)),
                    advantages: [0.75, -0.75]),
                sampleCount: trajectory.logProbabilities.elementCount,
                at: try bench.policy.sampling(parameters).tracked, lanes: Lanes(count: 3))
            #expect(TensorSet(own.gradient) == result.tensors)
            #expect(GradientStatistics(own.statistics) == result.statistics)
            #expect(GradientStatistics(result.statistics.policy) == result.statistics)
        }
    }

    @Test("the worker that sampled a group asks nobody for its trajectory")
    func own() throws {
        try withWorker { (bench, servers) throws in
            // The same group, sampled by another process: the same bits, so the same digest.
            let (lease, trajectory) = try sampled(bench, servers)
            servers.state.withLock {
                ($0.following, $0.leaseCount) = ([Self.gradient(lease, trajectory)], 2)
            }
            #expect(try bench.run() == .stopped(reason: "enough"))
            let state = servers.state.withLock { $0 }
            #expect(state.gradients.count == 1 && state.results.count == 2 && state.reports.isEmpty)
            #expect(servers.count(.contentRequest) == 0)
        }
    }

    @Test("a lease for a gradient that the run cannot have is given back by name")
    func foreignLeases() throws {
        try withWorker { (bench, servers) throws in
            let (lease, trajectory) = try sampled(bench, servers)
            let samples = trajectory.logProbabilities.elementCount
            func cause(_ order: Lease, _ content: TensorSet? = nil) throws -> String? {
                try bench.report { state in
                    state.lease = order
                    state.lease.leaseID = lease.leaseID
                    let tensors = content ?? trajectory.tensors
                    state.contents = order.gradient.map { [$0.trajectory: tensors] } ?? [:]
                }
            }
            let updates = bench.settings.method.policy.updatesPerEpoch
            let clip = Float(bench.settings.method.policy.advantageClip)
            for (order, word) in [
                (Self.gradient(lease, trajectory, update: updates), "beyond the \(updates) optimiser steps"),
                (Self.gradient(lease, trajectory, sampleCount: samples + 1), "divided by \(samples + 1) samples"),
                (Self.gradient(lease, trajectory, sampleCount: samples << 20), "divided by \(samples << 20) samples"),
                (Self.gradient(lease, trajectory, [clip * 2, 0]), "beyond \(clip)"),
            ] {
                let cause = try cause(order)
                #expect(cause?.contains(word) == true, "\(word): \(cause ?? "no report")")
            }
            var other = trajectory.tensors
            other["latents"] = TensorPayload(
                floats: [Float](repeating: 2, count: trajectory.latents.elementCount), shape: trajectory.latents.shape)
            // Another content than the one that was asked for, and contents that are no trajectory of the group.
            #expect(try cause(Self.gradient(lease, trajectory), other)?.contains("sent a content of digest") == true)
            other["latents"] = TensorPayload(
                floats: [Float](repeating: .nan, count: trajectory.latents.elementCount),
                shape: trajectory.latents.shape)
            for (content, word) in [
                (other, "latents that are not finite"),
                (["latents": trajectory.latents], "logProbabilities is missing"),
            ] {
                var order = Self.gradient(lease, trajectory)
                order.gradient?.trajectory = ContentDigest(of: content)
                let cause = try cause(order, content)
                #expect(cause?.contains(word) == true, "\(word): \(cause ?? "no report")")
            }
            #expect(servers.state.withLock { $0.gradients.isEmpty })
        }
    }

    @Test("a gradient that the learner refuses makes the worker start over from the learner's own weights")
    func refused() throws {
        try withWorker { (bench, servers) throws in
            let (lease, trajectory) = try sampled(bench, servers)
            let order = Self.gradient(lease, trajectory)
            let before = servers.count(.manifestRequest)
            servers.state.withLock {
                $0.contents = [ContentDigest(of: trajectory.tensors): trajectory.tensors]
                ($0.lease, $0.leaseCount) = (order, 2)
                $0.verdicts = [TaskAcknowledgement(.refused, reason: "a test's")]
            }
            #expect(try bench.run() == .stopped(reason: "enough"))
            #expect(servers.count(.manifestRequest) == before + 2 && servers.count(.contentRequest) == 1)
            #expect(
                servers.state.withLock { $0.gradients.count == 2 && $0.gradients[0].tensors == $0.gradients[1].tensors }
            )
        }
    }
}
