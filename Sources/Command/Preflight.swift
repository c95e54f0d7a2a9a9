import AdvGRPO
import ComputeRoles
import Configuration
import Datasets
import Foundation
import ImageModels
import Learner
import Logging
import MethodModels
import Processes
import RewardServer
import TensorCore
import Transport

/// What is looked at before the first process of a run starts, so that bad input is told at once and leaves nothing behind.
/// All of it blocks.
enum Preflight {
    /// Makes sure that there are prompts to train on, that every prompt has references and suits the rewards, and that every
    /// reference image can be decoded; names the prompts that are left out.
    ///
    /// - Parameter evaluates: whether the prompts of the evaluation are needed, too.
    /// - Throws: one `DatasetError` that lists all problems of references; `ModelError` naming a prompt.
    static func checkReferences(_ settings: Settings, evaluates: Bool) throws {
        let run = try RunPrompts(settings)
        let prompts = run.training + (evaluates ? run.evaluated : [])
        for reward in settings.method.reward.weights.active { try FrozenReward.check(prompts, for: reward) }
        try run.references(of: prompts).checkImages()
        noteLeftOut(run)
    }

    /// Names the prompts of a run that are left out.
    static func noteLeftOut(_ run: RunPrompts) {
        if let warning = run.warning { note("warning: \(warning)") }
    }

    /// Makes sure that the judge of contact sheets can be loaded and is none of the backbones that the run reads.
    ///
    /// - Throws: `ModelError`, `SafeTensorsError`, `DatasetError` naming the file.
    static func checkJudge(_ settings: Settings) throws {
        guard !settings.judge.isEmpty else { return }
        _ = try PreviewJudge(settings, engine: settings.engine.engine()) { note("warning: \($0)") }
    }

    /// Warns when the text encoders of a run will not see the ends of some prompts.
    ///
    /// - Throws: `ModelError` when a tokenizer cannot be loaded; `DatasetError`.
    static func notePromptCuts(_ settings: Settings) throws {
        let run = try RunPrompts(settings)
        try notePromptCuts(run.training + run.evaluated, model: settings.model)
    }

    /// Warns when a pipeline's text encoders will not see the ends of some prompts.
    ///
    /// - Throws: `ModelError` when a tokenizer cannot be loaded.
    static func notePromptCuts(_ prompts: [String], model: String) throws {
        if let cuts = PromptCuts(prompts, readers: try PolicyFiles(path: model).promptReaders()) {
            note("warning: \(cuts.warning)")
        }
    }

    /// Makes sure that the processes of rewards of one's own can be asked; warns of those that are not there yet.
    ///
    /// - Throws: `TransportError` naming an endpoint or a key.
    static func checkRewardProcesses(_ settings: Settings) throws {
        guard !settings.method.activeRewardProcesses.isEmpty else { return }
        let loop = try SocketLoop()
        defer { loop.shutdownBlocking() }
        var missing = try RewardProcessPeer.all(settings, on: loop)
        let end = ContinuousClock.now + .seconds(2)
        while true {
            missing = try missing.filter { try !$0.isConnected() }
            if missing.isEmpty || ContinuousClock.now > end { break }
            Thread.sleep(forTimeInterval: 0.02)
        }
        for peer in missing {
            note("warning: \(peer.place) is not there; start it, as no group can be scored without it")
        }
    }

    /// Makes sure that this machine has the memory that the run will need; warns where that is close, or not free now. Runs on
    /// an engine that is not rehearsed are not looked at.
    ///
    /// - Throws: `CommandFailure` that says what to change; what loading models and references throws.
    static func checkMemory(_ settings: Settings) throws {
        guard settings.engine.isRehearsed else { return }
        let plan = try MemoryPlan(settings)
        if let shortage = plan.shortage {
            guard !plan.isClearlyShort else { throw CommandFailure(shortage) }
            note(shortage)
        }
        if let warning = plan.warning { note(warning) }
    }

    /// Makes sure that the servers will be able to listen, by listening in their places and letting go again.
    ///
    /// - Throws: `TransportError` naming the endpoint, for example `addressInUse`.
    static func checkEndpoints(_ settings: Settings, runDirectory: String) throws {
        let loop = try SocketLoop()
        defer { loop.shutdownBlocking() }
        let options = try ServerOptions(
            keys: settings.cluster.keys, insecure: settings.cluster.insecure, logger: Logger(label: "train"))
        let endpoints = settings.cluster.endpoints
        let servers = try [("learner", endpoints.learner), ("reward-server", endpoints.rewardServer)].map {
            try Server(Endpoint(of: $0, $1, in: runDirectory), on: loop, options: options) { _ in }
        }
        // Both at once: they may have been given the same place.
        withExtendedLifetime(servers) {}
    }
}
