import Platform
public import Processes
import Protocol
import WeightsTransfer

/// The learner's whole view of a run: what `advgrpo status` prints and the progress line is made of.
public struct RunStatus: Codable, Sendable, Equatable {
    /// What the learner's training thread does.
    public enum Phase: String, Codable, RoleActivity {
        /// Loads models, restores a snapshot.
        case starting
        /// Waits for the epoch's groups.
        case rollout
        /// Updates the policy.
        case training
        /// Waits for the reward server to train the discriminator.
        case discriminator
        /// Makes the next version known and opens the next epoch.
        case publishing
        /// Writes down what the epoch did.
        case recording
        /// Writes a snapshot.
        case snapshot
        /// Renders a contact sheet.
        case preview
        /// Evaluates before or after training.
        case evaluation
        /// The run is over.
        case finished

        public var meaning: String {
            switch self {
            case .starting: "loads models, restores a snapshot and the reward server, opens the first epoch"
            case .rollout: "waits for the epoch's groups"
            case .training: "advantages and the policy's updates; the reward server trains meanwhile"
            case .discriminator: "waits for the reward server to train the discriminator"
            case .publishing: "makes the next version known and opens the next epoch"
            case .recording: "writes down what the epoch did"
            case .snapshot: "fetches the reward server's state and writes a snapshot"
            case .preview: "renders a contact sheet"
            case .evaluation: "evaluates before or after training"
            case .finished: "waits for the workers to leave"
            }
        }
    }

    /// Figures of the run so far.
    public struct Progress: Codable, Sendable, Equatable {
        /// Epochs the run is to have.
        public var epochs = 0
        /// Images sampled and trained on.
        public var images = 0
        /// Until the run ends, seconds.
        public var secondsLeft: Double?
        /// The newest value of every metric, by name; docs/metrics.md says what they are.
        public var metrics: [String: Double] = [:]
        /// The run's newest alarms, oldest first, each a sentence.
        public var alarms: [String] = []

        public init() {}
    }

    /// One rollout worker.
    public struct Worker: Codable, Sendable, Equatable {
        public var name: String
        public var host: String
        public var processID: Int
        public var processor: String
        public var engine: String
        /// Version of the program.
        public var program: String
        /// What it does, for which group.
        public var state: String
        public var group: String?
        /// Seconds since its last message.
        public var lastSeenSeconds: Double
        /// Groups it delivered.
        public var delivered: Int
        /// Its last refused deliveries.
        public var refusals: [String]
        /// Seconds by what it did (`Heartbeat.State`); they add up to its uptime.
        public var seconds: [String: Double]
    }

    /// One task: a group of the epoch, or the gradient of one.
    public struct Group: Codable, Sendable, Equatable {
        public var group: String
        public var prompt: String
        /// open, leased, scored, trained or quarantined; a gradient's open, leased, made, added or quarantined.
        public var state: String
        /// Who has it or made it.
        public var worker: String?
        /// Seconds since the state last changed.
        public var sinceSeconds: Double
        public var leaseCount: Int
        public var failures: [String]
    }

    /// Somebody waits for something.
    public struct Wait: Codable, Sendable, Equatable {
        public var who: String
        public var what: String
        public var seconds: Double
    }

    public var runID: String
    /// Version of the learner's program.
    public var program: String
    public var phase: Phase
    public var phaseSeconds: Double
    public var epoch: Int
    public var policyVersion: Int
    public var weightsDigest: String
    public var discriminatorVersion: Int
    public var stopping: String?
    /// The learner's seconds by phase; they add up to its uptime.
    public var seconds: [String: Double]
    public var progress: Progress
    public var workers: [Worker]
    public var groups: [Group]
    /// Of the optimiser step in progress, or the last one.
    public var gradients: [Group]
    public var waits: [Wait]
    public var ledger: Ledger.Counters
    /// Of gradients, since the learner began or went back to a snapshot.
    public var gradientLedger: Ledger.Counters
}

extension LearnerState {
    /// The view at `now`, milliseconds.
    func status(now: Int, waits: [(what: String, seconds: Double)]) -> RunStatus {
        RunStatus(
            runID: runID.rawValue, program: Program.version, phase: phase,
            phaseSeconds: Double(now - phaseSince) / 1000, epoch: epoch,
            policyVersion: weights?.version.rawValue ?? 0, weightsDigest: weights?.digest.hexadecimal ?? "",
            discriminatorVersion: discriminatorVersion.rawValue, stopping: stopReason,
            seconds: clock.seconds(), progress: progress,
            workers: workers.sorted { $0.key < $1.key }.map { name, worker in
                RunStatus.Worker(
                    name: name, host: worker.hello.process.host, processID: worker.hello.process.processID,
                    processor: worker.hello.process.processor, engine: worker.hello.process.engine,
                    program: worker.hello.process.program, state: worker.heartbeat?.state.rawValue ?? "unknown",
                    group: worker.heartbeat?.task?.description, lastSeenSeconds: Double(now - worker.lastSeen) / 1000,
                    delivered: worker.delivered, refusals: Array(worker.refusals.suffix(5)),
                    seconds: worker.heartbeat?.seconds ?? [:])
            },
            groups: ledger.entries(of: .rollout).map { RunStatus.Group($0, now: now) },
            gradients: ledger.entries(of: .gradient).map { RunStatus.Group($0, now: now) },
            waits: waits.map { RunStatus.Wait(who: "learner", what: $0.what, seconds: $0.seconds) },
            ledger: ledger.counters, gradientLedger: ledger.gradientCounters)
    }
}

extension RunStatus.Group {
    init(_ entry: Ledger.Entry, now: Int) {
        let (state, worker): (String, String?) =
            switch entry.state {
            case .open: ("open", nil)
            case .leased(let worker, _, _): ("leased", worker)
            case .done(let worker): (entry.task.kind == .rollout ? "scored" : "made", worker)
            case .closed: (entry.task.kind == .rollout ? "trained" : "added", nil)
            case .quarantined: ("quarantined", nil)
            }
        self.init(
            group: entry.task.group.description, prompt: entry.prompt, state: state, worker: worker,
            sinceSeconds: Double(now - entry.since) / 1000, leaseCount: entry.leaseCount, failures: entry.failures)
    }
}
