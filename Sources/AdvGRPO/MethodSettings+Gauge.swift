/// When a run is taken to cheat, and what is done then.
public struct GaugeSettings: Codable, Sendable, Equatable {
    /// What an alarm does besides being told.
    public var action = GaugeAction.warn
    /// Epochs that an alarm looks back on.
    public var window = 10
    /// Standard errors by which a slope must differ from 0 to be one.
    public var trend = 3.0
    /// Share of its first value below which the diversity of groups has collapsed.
    public var minimumDiversity = 0.5
    /// Bound on the root mean square of log ρ.
    public var maximumLogRatio = 0.1
    /// Held-out area under the ROC curve that a discriminator which learns exceeds.
    public var minimumAUC = 0.55
    /// Held-out hinge that a discriminator which learns stays below.
    public var maximumHinge = 1.0
    /// Optimiser steps of a refresh, in those of a usual training.
    public var refresh = 8
    /// Rollbacks after which the run ends at the next alarm.
    public var maximumRollbacks = 3

    public init() {}

    /// Documentation and check of every key.
    public static let keys: [SettingKey<GaugeSettings>] = [
        .choice(
            "action", \.action,
            "What an alarm does. `off`: there are none; `warn`: it is told, with a contact sheet, and nothing changes; `refresh`: the "
                + "discriminator's next training takes `gauge.refresh` times the steps, and its version is the new frozen twin; `slow`: the "
                + "policy's learning rate is halved for the rest of the run; `rollback`: the run goes back to the last snapshot before the "
                + "alarm's window and on from there with half the learning rate.", source: "own"),
        .integer(
            "window", \.window, 3...100_000, unit: "epochs", "Epochs that an alarm looks back on.", source: "own"),
        .number(
            "trend", \.trend, .above(0), unit: "standard errors",
            "How far a slope over the window must be from 0: the reward's above and the frozen twin's below is an alarm.",
            source: "own"),
        .number(
            "minimumDiversity", \.minimumDiversity, .between(0, 1), unit: "share",
            "Alarm where the window's mean `gauge.diversity` is below this share of its mean over the first window; 0: never.",
            source: "own"),
        .number(
            "maximumLogRatio", \.maximumLogRatio, .above(0),
            "Alarm where the root mean square of the logarithm of the ratio, over the window, is above.", source: "own"),
        .number(
            "minimumAUC", \.minimumAUC, .between(0, 1),
            "Alarm where `discriminator.auc` stays at or below it for a window; 0: never.", source: "own"),
        .number(
            "maximumHinge", \.maximumHinge, .above(0),
            "Alarm where `discriminator.heldOutHinge` stays above it for a window; 1 is what knowing nothing costs.",
            source: "own"),
        .integer(
            "refresh", \.refresh, 2...10, unit: "trainings",
            "Optimiser steps of a refresh, as a multiple of `discriminator.stepsPerTraining`.", source: "own"),
        .integer(
            "maximumRollbacks", \.maximumRollbacks, 1...64, unit: "rollbacks",
            "Rollbacks of a run; the alarm after the last one ends it.", source: "own"),
    ]
}

/// What an alarm does.
public enum GaugeAction: String, Codable, Sendable, CaseIterable {
    /// There are no alarms.
    case off
    /// It is told.
    case warn
    /// The discriminator trains longer once.
    case refresh
    /// The policy learns at half the rate from then on.
    case slow
    /// The run goes back to before the alarm's window, and on at half the rate.
    case rollback
}
