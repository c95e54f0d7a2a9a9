import ArgumentParser

/// The one executable: subcommands that wire the libraries together, nothing else.
@main
struct AdvGRPOCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "advgrpo",
        abstract: "Fine-tune a flow-matching text-to-image model by reinforcement learning with an adversarial reward.",
        discussion: """
            Results go to standard output, progress and logs to standard error. Exit status: 0 done, 1 failed with one sentence \
            that says what to do, 64 wrong usage.
            """,
        subcommands: [
            Train.self, LearnerCommand.self, RewardServerCommand.self, RolloutWorkerCommand.self, HealthCommand.self,
            StatusCommand.self, Sample.self, Evaluate.self, PrepareEmoji.self, Inspect.self, Keygen.self,
        ])
}
