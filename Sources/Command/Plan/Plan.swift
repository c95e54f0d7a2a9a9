import ArgumentParser
import ComputeRoles
import Configuration

/// `advgrpo plan`: what a run will need, before it starts.
struct Plan: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Predict the memory of every process of a run, and say whether this machine has it.",
        discussion: """
            Each role is rehearsed with the run's settings, models and data on an engine that computes nothing; nothing is written. \
            Columns are MiB of one process at its peak. Exit status 1 when the run will not fit.
            """)

    @OptionGroup var settings: SettingsOptions

    @Flag(help: "Print one JSON document and nothing else.")
    var json = false

    func run() async throws {
        let loaded = try settings.load()
        try loaded.checkPaths(file: settings.settings)
        Preflight.noteLeftOut(try RunPrompts(loaded))
        let plan = try await onThread("plan") { try MemoryPlan(loaded) }
        if json { try printJSON(plan) } else { print(plan.table) }
        if let shortage = plan.shortage { throw CommandFailure(shortage) }
        if let warning = plan.warning { note(warning) }
    }
}
