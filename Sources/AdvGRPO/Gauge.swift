import Foundation

/// Watches a run for a policy that pleases the reward instead of improving, and for a discriminator that has given up.
///
/// It reads one line of figures an epoch, from the policy's first update on, and judges a window of them at a time. After an
/// alarm the window begins anew, so that one cause is told once a window. A pure value: the same figures make the same
/// alarms at the same epochs, whoever interrupts the run.
public struct Gauge: Sendable, Equatable {
    /// Figures of one epoch; nil where the epoch has none.
    public struct Reading: Sendable, Equatable, Codable {
        /// Mean reward: what the policy follows.
        public var reward: Double?
        /// Mean score by the frozen twin, which the policy does not follow.
        public var twin: Double?
        /// What images of a prompt differ by.
        public var diversity: Double?
        /// Root mean square of log ρ.
        public var logRatio: Double?
        /// Held-out area under the ROC curve of the discriminator.
        public var areaUnderCurve: Double?
        /// Held-out hinge of the discriminator.
        public var hinge: Double?

        /// Nothing was measured.
        public init() {}

        /// The same without what is not finite.
        var finite: Reading {
            var reading = self
            for path in Self.figures where reading[keyPath: path]?.isFinite == false { reading[keyPath: path] = nil }
            return reading
        }

        private static var figures: [WritableKeyPath<Reading, Double?>] {
            [\.reward, \.twin, \.diversity, \.logRatio, \.areaUnderCurve, \.hinge]
        }
    }

    private let settings: GaugeSettings
    /// What it remembers; part of a snapshot.
    public private(set) var state: State

    /// - Parameters:
    ///   - settings: thresholds and what is done, validated.
    ///   - state: of a snapshot; the start of a run otherwise.
    public init(_ settings: GaugeSettings, state: State = State()) {
        self.settings = settings
        self.state = state
    }

    /// Takes note of an epoch.
    ///
    /// - Parameters:
    ///   - epoch: its number, from 0.
    ///   - reading: its figures.
    ///   - policyLearned: whether the policy moved; epochs before it first did are not judged.
    /// - Returns: the epoch's alarms, of different causes; usually none.
    public mutating func note(_ reading: Reading, epoch: Int, policyLearned: Bool) -> [GaugeAlarm] {
        guard settings.action != .off, policyLearned || state.hasBegun else { return [] }
        state.hasBegun = true
        let reading = reading.finite
        state.readings = (state.readings + [reading]).suffix(settings.window)
        if let diversity = reading.diversity, state.firstDiversities.count < settings.window {
            state.firstDiversities.append(diversity)
        }
        guard state.readings.count == settings.window else { return [] }
        let alarms = Self.rules.compactMap { cause, judge in
            judge(self).map { GaugeAlarm(epoch: epoch, cause: cause, sentence: $0) }
        }
        if !alarms.isEmpty { state.sound(alarms, settings) }
        return alarms
    }

    /// What the policy's learning rate is multiplied with.
    public var learningRateShare: Double { state.learningRateShare }

    /// How many times the usual steps the next training of the discriminator takes; to be called once it is ordered.
    public mutating func takeRefresh() -> Int {
        defer { state.refreshIsDue = false }
        return state.refreshIsDue ? settings.refresh : 1
    }

    /// Whether the run has been taken back as often as it may, and is to end.
    public var isSpent: Bool { state.rollbacks > settings.maximumRollbacks }

    /// The last epoch count at which a snapshot knows nothing of the window that an alarm in `epoch` looked back on.
    public func beginning(ofWindowEnding epoch: Int) -> Int { max(0, epoch + 1 - settings.window) }

    /// Remembers what was done and told in epochs that the run was taken back from; what it has read is its own.
    public mutating func goBack(from later: State) { state = state.remembering(later) }

    // MARK: Rules

    private static let rules: [(GaugeAlarm.Cause, @Sendable (Gauge) -> String?)] = [
        (.reward, { $0.rewardWithoutTwin }), (.diversity, { $0.collapse }), (.ratio, { $0.ratio }),
        (.discriminator, { $0.chance ?? $0.hinge }),
    ]

    /// The figures of the window, where at least `count` epochs have one.
    private func values(_ path: KeyPath<Reading, Double?>, atLeast count: Int) -> [Double]? {
        let values = state.readings.compactMap { $0[keyPath: path] }
        return values.count >= count ? values : nil
    }

    private var rewardWithoutTwin: String? {
        guard let reward = values(\.reward, atLeast: settings.window),
            let twin = values(\.twin, atLeast: settings.window)
        else { return nil }
        let (up, down) = (trend(reward), trend(twin))
        guard up > settings.trend, down < -settings.trend else { return nil }
        return
            "the reward rises (by \(short(up)) standard errors over \(settings.window) epochs) while the frozen twin's score "
            + "falls (by \(short(-down))): the policy pleases the reward alone"
    }

    private var collapse: String? {
        guard let now = values(\.diversity, atLeast: settings.window).map(mean) else { return nil }
        let first = mean(state.firstDiversities)
        guard now < settings.minimumDiversity * first else { return nil }
        return
            "images of a prompt differ by \(short(now)), at first by \(short(first)): the policy makes one picture over and over"
    }

    private var ratio: String? {
        guard let ratios = values(\.logRatio, atLeast: 1) else { return nil }
        let ratio = mean(ratios.map { $0 * $0 }).squareRoot()
        guard ratio > settings.maximumLogRatio else { return nil }
        return
            "the logarithm of the ratio is \(short(ratio)) in the root mean square, above \(short(settings.maximumLogRatio)): "
            + "updates are too large"
    }

    private var chance: String? {
        guard let areas = values(\.areaUnderCurve, atLeast: 3), let best = areas.max(), best <= settings.minimumAUC
        else { return nil }
        return "the discriminator's area under the ROC curve stayed at or below \(short(settings.minimumAUC)) for "
            + "\(areas.count) trainings: its reward is noise, because it has stopped learning or images cannot be told from references"
    }

    private var hinge: String? {
        guard let hinges = values(\.hinge, atLeast: 3), let least = hinges.min(), least > settings.maximumHinge
        else { return nil }
        return
            "the discriminator's held-out hinge stayed above \(short(settings.maximumHinge)) for \(hinges.count) trainings: "
            + "it is surer than it is right"
    }
}

/// The slope of values over their positions in its standard errors (the t of a linear regression), 0 for equal values.
///
/// - Precondition: at least three.
func trend(_ values: [Double]) -> Double {
    let (n, centre, middle) = (Double(values.count), Double(values.count - 1) / 2, mean(values))
    var (products, squares, total) = (0.0, 0.0, 0.0)
    for (index, value) in values.enumerated() {
        let (x, y) = (Double(index) - centre, value - middle)
        products += x * y
        squares += x * x
        total += y * y
    }
    let slope = products / squares
    guard slope != 0 else { return 0 }
    let rest = max(0, total - slope * products)
    return slope / (rest / (n - 2) / squares).squareRoot()
}

private func mean(_ values: [Double]) -> Double { values.reduce(0, +) / Double(max(1, values.count)) }

/// Three digits, for people.
private func short(_ value: Double) -> String {
    String(format: "%.3g", value)
}
