/// One finding of the gauge.
public struct GaugeAlarm: Sendable, Equatable, Codable {
    /// What was found; the list may grow.
    public enum Cause: String, Sendable, Codable, CaseIterable {
        /// The reward rises while the frozen twin's score falls.
        case reward
        /// Images of a prompt have become alike.
        case diversity
        /// The ratio has left its band.
        case ratio
        /// The discriminator has stopped learning.
        case discriminator
    }

    /// The epoch after which it was found, from 0.
    public let epoch: Int
    /// What was found.
    public let cause: Cause
    /// The finding with its figures, for people.
    public let sentence: String
}

extension GaugeAlarm: CustomStringConvertible {
    public var description: String { "epoch \(epoch): \(sentence)" }
}

extension Gauge {
    /// What the gauge remembers.
    public struct State: Sendable, Equatable, Codable {
        /// The epochs since the last alarm, a window of them at most.
        var readings: [Reading] = []
        /// Of the run's first window.
        var firstDiversities: [Double] = []
        /// Whether the policy has moved.
        var hasBegun = false
        /// Whether the discriminator's next training is a refresh.
        var refreshIsDue = false
        /// How often the policy's learning rate was halved.
        public internal(set) var halvings = 0
        /// How often the run was taken back.
        public internal(set) var rollbacks = 0
        /// Alarms of the run so far.
        public internal(set) var alarmCount = 0
        /// The newest of them, oldest first.
        public internal(set) var alarms: [GaugeAlarm] = []

        /// The start of a run.
        public init() {}

        /// What the policy's learning rate is multiplied with.
        var learningRateShare: Double { (0..<halvings).reduce(1) { share, _ in share / 2 } }

        /// Alarms that are remembered with their sentences, and halvings that still change anything.
        private static let limit = 64

        mutating func sound(_ found: [GaugeAlarm], _ settings: GaugeSettings) {
            readings = []
            alarmCount += found.count
            alarms = (alarms + found).suffix(Self.limit)
            let halves = settings.action == .slow || settings.action == .rollback
            if halves { halvings = min(Self.limit, halvings + 1) }
            if settings.action == .rollback { rollbacks += 1 }
            if settings.action == .refresh { refreshIsDue = true }
        }

        /// This state with all that was done and told until `later`.
        func remembering(_ later: State) -> State {
            var state = self
            (state.halvings, state.rollbacks) = (later.halvings, later.rollbacks)
            (state.alarmCount, state.alarms) = (later.alarmCount, later.alarms)
            return state
        }

        /// What no run has, in a few words; nil for a state as a run leaves it.
        public var defect: String? {
            let counts = [
                ("halvings", halvings, Self.limit), ("rollbacks", rollbacks, 65), ("alarmCount", alarmCount, .max),
            ]
            if let (name, count, most) = counts.first(where: { $0.1 < 0 || $0.1 > $0.2 }) {
                return "has \(name) \(count), expected 0 to \(most)"
            }
            return alarms.count > min(Self.limit, alarmCount) ? "has \(alarms.count) alarms of \(alarmCount)" : nil
        }
    }
}
