public import AdvGRPO
public import ArgumentParser
import Configuration
import Foundation
import Platform
import RunFiles
public import TensorCore

/// A settings file and changes to it.
struct SettingsOptions: ParsableArguments {
    @Argument(help: "Settings file (YAML); see docs/settings.md.", transform: expandingHome)
    var settings: String

    @Option(
        name: .customLong("set"), parsing: .singleValue, help: "Change one setting: key.path=value. May be repeated.")
    var changes: [String] = []

    /// The complete, validated settings.
    func load() throws -> Settings { try Settings.load(path: settings, overrides: changes) }

    /// The same where the folder of a run may stand for its settings file.
    func loadOfRun() throws -> Settings {
        try Settings.load(
            path: RunDirectory.holdsRun(settings) ? settings + "/settings.yaml" : settings, overrides: changes)
    }
}

/// Where and how a client reaches a server.
struct PeerOptions: ParsableArguments {
    @Argument(help: "Endpoint of the role: tcp://HOST:PORT or ipc://PATH.")
    var endpoint: String

    @Option(help: "Folder with CURVE keys, as `advgrpo keygen` wrote it.", transform: expandingHome)
    var keys: String?

    @Option(help: "Seconds to wait for an answer.")
    var timeout: Double = 5

    func validate() throws {
        guard timeout > 0, timeout <= 86_400 else {
            throw ValidationError("--timeout must be above 0 and at most 86400, not \(timeout)")
        }
    }
}

/// What models are computed with.
struct ComputeOptions: ParsableArguments {
    @Option(help: "Precision of the models: fp32 or bf16. An autoencoder is always fp32.")
    var precision = NumericPrecision.fp32

    @Option(help: "Engine that computes.")
    var engine = EngineKind.default

    @Option(help: "Threads; all processors unless given.")
    var threads: Int?

    func validate() throws {
        if let threads, threads < 1 { throw ValidationError("--threads must be at least 1, not \(threads)") }
    }

    /// The threads.
    var lanes: Lanes { Lanes(count: threads ?? ProcessInfo.processInfo.activeProcessorCount) }
}

extension NumericPrecision: ExpressibleByArgument {}
extension MissingReferencesAnswer: ExpressibleByArgument {}

/// How an answer is shown.
struct ShowOptions: ParsableArguments {
    @Flag(help: "Print one JSON document and nothing else.")
    var json = false

    @Flag(help: "Ask again every second until interrupted.")
    var watch = false
}

extension EngineKind: ExpressibleByArgument {
    /// The engines, for help and completion.
    public static var allValueStrings: [String] { allCases.map(\.rawValue) }

    /// What help says of each.
    public static var allValueDescriptions: [String: String] {
        Dictionary(uniqueKeysWithValues: allCases.map { ($0.rawValue, $0.meaning) })
    }
}

/// A path of the command line, with the home folder that `~` stands for: a shell leaves `--option=~/x` as it is.
@Sendable
func expandingHome(_ text: String) throws -> String {
    do {
        return try HomeFolder.expanded(text)
    } catch {
        throw ValidationError("\(text): \(error.message); \(error.remedy)")
    }
}
