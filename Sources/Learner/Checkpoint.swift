import AdvGRPO
import ComputeRoles
import Configuration
import Foundation
import Logging
import MethodModels
import Platform
import Processes
import Protocol
import RunFiles
import SafeTensors
import TensorCore

/// A run at one moment, between two epochs: what a snapshot holds and a resumed run starts from.
struct Checkpoint {
    /// Figures and cursors, as JSON.
    struct Record: Codable, Sendable {
        var runID: RunID
        /// Epochs done; the next one's number.
        var epoch = 0
        var policyVersion = 0
        var discriminatorVersion = 0
        var schedule = Schedule.State()
        var ledger = Ledger.Counters()
        /// Images sampled and scored so far.
        var images = 0
        /// Wall time of the epochs so far, previews and evaluations not counted.
        var trainingSeconds = 0.0
        /// What computed: engine, kernel, processor.
        var computedBy: String
        /// Version of the program that wrote the snapshot; nil in those from before it was noted.
        var program: String?
        /// Digests of the models that learner and reward server began the run with, by their part of it; nil in snapshots from
        /// before there were any.
        var models: [String: String]?
        /// What the gauge remembers; nil in snapshots from before there was one.
        var gauge: Gauge.State?

        mutating func advance(by report: EpochReport, ledger: Ledger.Counters) {
            epoch += 1
            images += report.imageCount
            trainingSeconds += report.epochSeconds
            self.ledger = ledger
        }

        /// - Throws: `modelChanged` where a model is not the one that the run was begun with.
        func checkModels(_ present: [String: String], of run: String) throws(RuntimeError) {
            guard let models, let part = ModelDigest.difference(models, present) else { return }
            throw RuntimeError(
                code: .modelChanged, subject: run,
                message: "the run was begun with another \(part): its files hold other weights or settings now",
                remedy: "continue with the model that it was begun with, or start a new run")
        }
    }

    var record: Record
    var trainer: PolicyTrainer
    /// The policy's updates.
    let update: PolicyUpdate
    /// Who learns when.
    var schedule: Schedule
    var discriminatorVersion: DiscriminatorVersion
    /// The reward server's state; empty before the first snapshot, which stands for the initial one.
    var discriminatorState: TensorSet
    /// When a run is taken to cheat.
    let gaugeSettings: GaugeSettings
    /// Watches the run; its state is the record's.
    var gauge: Gauge {
        get { Gauge(gaugeSettings, state: record.gauge ?? Gauge.State()) }
        set { record.gauge = newValue.state }
    }
    /// When the epoch in progress was opened.
    var epochBegan = ContinuousClock.now

    /// The newest snapshot's checkpoint, or the run's first.
    static func newest(in store: SnapshotStore, run: TrainingRun) throws -> Checkpoint {
        let method = run.settings.method
        let update = PolicyUpdate(
            settings: method.policy, rollout: run.rollout, chunks: Chunks(size: method.rollout.chunkSize))
        func schedule(_ state: Schedule.State) -> Schedule {
            Schedule(
                schedule: method.schedule, discriminator: method.discriminator, algorithm: method.algorithm,
                state: state)
        }
        guard !store.steps().isEmpty else {
            return Checkpoint(
                record: Record(
                    runID: run.shared.withLock { $0.runID },
                    computedBy: "\(run.policy.engine.name): \(run.policy.engine.kernel)",
                    models: run.shared.withLock { $0.models }),
                trainer: try PolicyTrainer(
                    policy: run.policy, version: PolicyVersion(rawValue: 0), optimizer: method.optimizer(ofEpoch: 0)),
                update: update, schedule: schedule(Schedule.State()),
                discriminatorVersion: DiscriminatorVersion(rawValue: 0), discriminatorState: TensorSet(),
                gaugeSettings: method.gauge)
        }
        let snapshot = try store.newest { run.logger.warning("\($0)") }
        let record = try Self.record(in: snapshot.path)
        if let program = record.program, program != Program.version {
            run.logger.warning(
                "\(snapshot.path) was written by advgrpo \(program), this is \(Program.version); the run may go on with other bits"
            )
        }
        let file = try SafeTensorsFile(path: snapshot.path + "/discriminator.safetensors")
        var state = TensorSet()
        for entry in file.entries {
            state[entry.name] = TensorPayload(
                dtype: entry.dtype, shape: entry.shape, bytes: try file.finiteBytes(of: entry.name))
        }
        return Checkpoint(
            record: record,
            trainer: try PolicyTrainer(
                policy: run.policy, snapshot: snapshot.path, version: PolicyVersion(rawValue: record.policyVersion),
                optimizer: method.optimizer(ofEpoch: record.epoch)),
            update: update, schedule: schedule(record.schedule),
            discriminatorVersion: DiscriminatorVersion(rawValue: record.discriminatorVersion),
            discriminatorState: state,
            gaugeSettings: method.gauge)
    }

    /// The record of a snapshot.
    ///
    /// - Throws: `corruptSnapshot` for numbers that no run has.
    static func record(in folder: String) throws -> Record {
        let path = folder + "/run.json"
        let record = try JSONDecoder().decode(Record.self, from: Data(contentsOf: URL(fileURLWithPath: path)))
        for number in [record.epoch, record.policyVersion, record.discriminatorVersion]
        where !GroupID.epochs.contains(number) {
            throw RuntimeError(
                code: .corruptSnapshot, subject: path,
                message: "has epoch or version \(number), expected 0 to 2^32 - 1",
                remedy: "remove the snapshot and continue from the one before")
        }
        if let defect = record.gauge?.defect {
            throw RuntimeError(
                code: .corruptSnapshot, subject: path, message: "its gauge \(defect)",
                remedy: "remove the snapshot and continue from the one before")
        }
        return record
    }

    /// Writes the checkpoint into a snapshot's folder.
    func write(to folder: String, baseModel: String) throws {
        var record = record
        record.policyVersion = trainer.version.rawValue
        record.discriminatorVersion = discriminatorVersion.rawValue
        record.schedule = schedule.state
        record.program = Program.version
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        try DurableFile.write([SharedBytes(copying: Array(encoder.encode(record)))], to: folder + "/run.json")
        try trainer.write(to: folder, baseModel: baseModel)
        let tensors = discriminatorState.names.compactMap { name in
            discriminatorState[name].map { SafeTensor(name: name, dtype: $0.dtype, shape: $0.shape, bytes: $0.bytes) }
        }
        try SafeTensorsWriter.write(tensors, metadata: ["format": "pt"], to: folder + "/discriminator.safetensors")
    }
}
