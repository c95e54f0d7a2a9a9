import AdvGRPO
import ComputeRoles
import Configuration
import Foundation
import MethodModels
import NeuralNetworks
import Processes
import Protocol
import SafeTensors
import TensorCore
import WeightsTransfer

/// The policy under training: parameters, optimiser, average, and the version they make.
struct PolicyTrainer {
    let policy: DiffusionPolicy
    let settings: PolicySettings
    private var state: PolicyState
    /// Learning rate of what is learned now, before anything slows it down.
    private var rate: Double
    private(set) var version: PolicyVersion
    /// What the epoch that was opened last is sampled with: the current version, or with `rollout.overlap` the one before.
    private var sampling: (version: PolicyVersion, parameters: Parameters)

    /// What a supervised start left; nil before its end and without one.
    private(set) var start: Parameters?

    /// Before the first update, or as a snapshot in `folder` recorded it.
    ///
    /// - Parameter optimizer: step sizes of what is learned next.
    /// - Throws: `SafeTensorsError`, `ModelError` naming the file.
    init(
        policy: DiffusionPolicy, snapshot folder: String? = nil, version: PolicyVersion, optimizer: AdamW.Settings
    ) throws {
        self.policy = policy
        settings = policy.settings
        rate = optimizer.learningRate
        self.version = version
        guard let folder else {
            state = PolicyState(parameters: policy.initialParameters, settings: settings, optimizer: optimizer)
            sampling = (version, state.parameters)
            return
        }
        func read(_ name: String) throws -> Parameters {
            try Parameters(path: "\(folder)/\(name).safetensors", engine: policy.engine)
        }
        let counts = try Self.counts(in: folder, version: version)
        let parameters = try read("policy")
        // Snapshots of versions that did not keep it have none.
        if FileManager.default.fileExists(atPath: folder + "/policy-start.safetensors") {
            let start = try read("policy-start")
            _ = try policy.velocity(start)
            self.start = start
        }
        _ = try policy.velocity(parameters)
        state = PolicyState(
            parameters: parameters,
            optimizer: AdamW(
                optimizer, updateCount: counts.optimizerUpdates, firstMoment: try read("policy-moment1"),
                secondMoment: try read("policy-moment2")),
            average: ExponentialMovingAverage(
                decay: settings.ema.decay, interval: settings.ema.every, parameters: try read("policy-average"),
                updateCount: counts.averageUpdates))
        sampling =
            counts.samplingVersion == version.rawValue
            ? (version, parameters)
            : (PolicyVersion(rawValue: counts.samplingVersion), try read("policy-sampling"))
    }

    /// The next epoch is sampled with the current version.
    mutating func sampleWithCurrent() { sampling = (version, state.parameters) }

    /// A group as the update consumes it.
    func scored(_ result: GroupResult) throws -> ScoredGroup {
        ScoredGroup(
            group: result.group,
            prompt: try policy.conditioning(result.prompt),
            trajectory: Trajectory(
                stepIndices: result.stepIndices.int32s.map(Int.init),
                latents: try result.latents.tensor(on: policy.engine),
                logProbabilities: try result.logProbabilities.tensor(on: policy.engine)),
            rewards: result.rewards.floats, components: result.components.mapValues(\.floats),
            maps: result.maps.map {
                RewardMaps(grid: PatchGrid(rows: $0.shape[1], columns: $0.shape[2]), floats: $0.floats)
            })
    }

    /// Whether workers can make the gradients: they can bring them.
    var gradientsTravel: Bool { OptimizerStep.canHold(state.parameters) }

    /// The policy's updates of an epoch, of gradients that are made elsewhere: a new version.
    ///
    /// - Parameter gradients: hands over the gradients of some of the groups at these parameters, in order.
    /// - Throws: `NumericalFailure`, and what `gradients` throws.
    mutating func update(
        _ update: PolicyUpdate, _ groups: [GroupID],
        gradients: (_ number: Int, _ groups: Range<Int>, Parameters, _ add: (GroupGradient) -> Void) throws -> Void
    ) throws -> [PolicyUpdateReport] {
        var next = state
        var reports: [PolicyUpdateReport] = []
        for (number, range) in update.partition(groups.count).enumerated() {
            var fold = update.fold(groupCount: range.count)
            try gradients(number, range, next.parameters) { fold.add($0) }
            reports.append(try fold.descend(&next, update.subject(Array(groups[range]))))
        }
        state = next
        version = PolicyVersion(rawValue: version.rawValue + 1)
        return reports
    }

    /// The policy's updates of an epoch, of gradients that are made here: a new version.
    mutating func update(
        _ update: PolicyUpdate, _ groups: [ScoredGroup], _ advantages: Advantages, lanes: Lanes
    ) throws -> [PolicyUpdateReport] {
        let reports = try update(
            &state, groups: groups, advantages: advantages, policy: policy.trainable, lanes: lanes)
        version = PolicyVersion(rawValue: version.rawValue + 1)
        return reports
    }

    /// Supervised steps: a new version.
    ///
    /// - Parameters:
    ///   - endsStart: whether rollouts follow, for which the optimiser begins anew.
    ///   - goOn: called before every step; it throws where there is to be none.
    mutating func learn(
        _ flowMatching: FlowMatching, steps: Range<Int>, of references: SupervisedReferences, endsStart: Bool,
        lanes: Lanes, goOn: () throws -> Void
    ) throws -> [SupervisedReport] {
        let reports = try steps.map { step in
            try goOn()
            try references.prepare(flowMatching.references(ofStep: step), lanes: lanes)
            return try flowMatching(
                step: step, &state, reference: references.latents, policy: policy.trainable,
                maximumGradientNorm: settings.maximumGradientNorm, lanes: lanes)
        }
        if endsStart {
            start = state.parameters
            state.restartOptimizer(settings.optimizer)
            rate = settings.learningRate
        }
        version = PolicyVersion(rawValue: version.rawValue + 1)
        return reports
    }

    /// The version to sample with, as workers fetch it.
    ///
    /// - Throws: `WireError` for more than a manifest can describe.
    func published() throws(WireError) -> PublishedWeights {
        try PublishedWeights(version: sampling.version, parameters: sampling.parameters)
    }

    /// What the epoch that was opened last is sampled with.
    var samplingParameters: Parameters { sampling.parameters }

    /// Of the next update.
    var learningRate: Double { state.optimizer.settings.learningRate }

    /// Learns at a share of the settings' rate from the next update on.
    mutating func slowDown(to share: Double) { state.setLearningRate(rate * share) }

    /// Averaged weights, for previews, evaluation and export.
    var averaged: Parameters { state.average.parameters }

    private struct Counts: Codable {
        var optimizerUpdates: Int
        var averageUpdates: Int
        var samplingVersion: Int
    }

    /// The counts of a snapshot.
    ///
    /// - Throws: `corruptSnapshot` for numbers that no run has: it samples with its version or the one before.
    private static func counts(in folder: String, version: PolicyVersion) throws -> Counts {
        let path = folder + "/policy.json"
        let counts = try JSONDecoder().decode(Counts.self, from: Data(contentsOf: URL(fileURLWithPath: path)))
        let ranges = [
            ("optimizerUpdates", counts.optimizerUpdates, 0...Int(UInt32.max)),
            ("averageUpdates", counts.averageUpdates, 0...Int(UInt32.max)),
            ("samplingVersion", counts.samplingVersion, max(0, version.rawValue - 1)...version.rawValue),
        ]
        for (name, value, range) in ranges where !range.contains(value) {
            throw RuntimeError(
                code: .corruptSnapshot, subject: path,
                message: "has \(name) \(value), expected \(range.lowerBound) to \(range.upperBound)",
                remedy: "remove the snapshot and continue from the one before")
        }
        return counts
    }

    /// Writes everything a resumed run needs, and what was trained for other programs.
    func write(to folder: String, baseModel: String) throws {
        try state.parameters.write(to: folder + "/policy.safetensors")
        try state.average.parameters.write(to: folder + "/policy-average.safetensors")
        try state.optimizer.firstMoment.write(to: folder + "/policy-moment1.safetensors")
        try state.optimizer.secondMoment.write(to: folder + "/policy-moment2.safetensors")
        try start?.write(to: folder + "/policy-start.safetensors")
        if sampling.version != version { try sampling.parameters.write(to: folder + "/policy-sampling.safetensors") }
        let counts = Counts(
            optimizerUpdates: state.optimizer.updateCount, averageUpdates: state.average.updateCount,
            samplingVersion: sampling.version.rawValue)
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        try DurableFile.write([SharedBytes(copying: Array(encoder.encode(counts)))], to: folder + "/policy.json")
        try export(to: folder, baseModel: baseModel)
    }

    /// Writes what was trained, averaged, for other programs: `adapter/` as PEFT and diffusers read it, or the whole network as
    /// diffusers saves it.
    func export(to folder: String, baseModel: String) throws {
        if let adapter = policy.adapter(averaged) {
            try adapter.write(folder: folder + "/adapter", baseModel: baseModel)
        }
        if let network = policy.wholeNetwork(averaged), let part = try policy.networkPart() {
            try Self.write(network, to: folder + "/" + part.name, configuration: part.configuration)
        }
    }

    /// Weights with the base's configuration: what `from_pretrained` of the network's class in diffusers reads.
    private static func write(_ network: Parameters, to folder: String, configuration path: String) throws {
        let configuration = try ConfigurationFile.text(path: path)
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        try network.write(to: folder + "/diffusion_pytorch_model.safetensors")
        try DurableFile.write([SharedBytes(copying: Array(configuration.utf8))], to: folder + "/config.json")
    }
}
