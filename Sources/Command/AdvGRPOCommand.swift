import ArgumentParser
import Foundation
import Platform
import Processes

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
        version: Program.version,
        subcommands: [
            Train.self, Plan.self, LearnerCommand.self, RewardServerCommand.self, RolloutWorkerCommand.self,
            RelayCommand.self, HealthCommand.self, StatusCommand.self, StopCommand.self, Sample.self, Score.self,
            Evaluate.self, Discriminators.self,
            Bench.self, PrepareEmoji.self, Inspect.self, Keygen.self,
        ])

    /// Parses and runs; a failure is one line on standard error, by which a supervisor knows it too.
    static func main() async {
        do {
            var command = try parseAsRoot()
            if var command = command as? any AsyncParsableCommand { try await command.run() } else { try command.run() }
        } catch  where !(error is ExitCode) && exitCode(for: error) == .failure {
            note(Supervisor.lastWord + sentence(error))
            exit(withError: ExitCode.failure)
        } catch {
            exit(withError: error)
        }
    }

    /// Errors of this program describe themselves in a sentence; those of Foundation do not.
    private static func sentence(_ error: any Error) -> String {
        guard let error = error as? CocoaError else { return "\(error)" }
        return (error.filePath.map { "\($0): " } ?? "") + error.localizedDescription
    }
}
