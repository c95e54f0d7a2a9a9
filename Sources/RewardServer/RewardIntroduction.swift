import AdvGRPO
import ComputeRoles
import Configuration
import MethodModels
import Protocol

/// Whose reward server this is: settings and models must be those of the learner that introduces itself.
struct RewardIntroduction: Sendable {
    /// Digests of what scores come from, by their part of the run.
    let models: [String: String]
    private let settingsDigest: String
    private let versions: ProgramVersions

    /// Digests the models.
    ///
    /// - Parameter versions: told of the learner's.
    /// - Throws: `ModelError` naming a file that cannot be read.
    init(_ settings: Settings, versions: ProgramVersions) throws {
        settingsDigest = settings.methodDigest
        self.versions = versions
        var digests = ["rewardBackbone": try ModelDigest.folder(settings.rewardBackbone)]
        for component in settings.method.reward.weights.active {
            guard let folder = settings.rewardModels[component], !folder.isEmpty else { continue }
            digests["rewardModels.\(component.rawValue)"] = try ModelDigest.folder(
                folder, additional: FrozenReward.additionalFiles(of: component))
        }
        if settings.method.reward.references == .decoded {
            digests.merge(try ModelDigest.pipeline(settings.model, [.autoencoder])) { $1 }
        }
        if settings.method.reward.weights.active.contains(where: { $0.reads.contains(.embedding) }) {
            digests.merge(try ModelDigest.pipeline(settings.model, [.text])) { $1 }
        }
        models = digests
    }

    /// Version of this program.
    var program: String { versions.own }

    /// A learner is one of this run.
    ///
    /// - Throws: `settingsMismatch`, `modelMismatch`.
    func check(_ learner: Hello) throws(Failure) {
        versions.note(learner.process.program, of: "learner \(learner.name) on \(learner.process.host)")
        guard learner.settingsDigest == settingsDigest else {
            throw Failure(
                code: .settingsMismatch, message: "the reward server runs other settings than the learner",
                remedy: "start both with the run's own settings.yaml")
        }
        if let part = ModelDigest.difference(models, learner.models) {
            throw Failure(
                code: .modelMismatch,
                message:
                    "the reward server has another \(part) than the learner: its files hold other weights or settings",
                remedy: "copy the learner's \(part) to the reward server's machine")
        }
    }
}
