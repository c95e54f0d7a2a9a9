import AdvGRPO
import Foundation
import TestSupport
import Testing

@testable import Configuration

@Suite("Settings")
struct SettingsTests {
    /// The problems of a text that must be refused.
    private func problems(_ text: String, overrides: [String] = []) -> [String] {
        do {
            _ = try Settings.parse(text, overrides: overrides)
            return []
        } catch {
            return error.problems.map(\.description)
        }
    }

    @Test("an empty file is the fixed preset")
    func emptyFile() throws {
        #expect(try Settings.parse("") == Settings(fidelity: .fixed))
        #expect(try Settings.parse("# only a comment\n") == Settings())
        #expect(try Settings.parse("rollout:\nrun:\n") == Settings())
    }

    @Test("every preset is valid")
    func presetsAreValid() {
        for fidelity in Fidelity.allCases { #expect(Settings(fidelity: fidelity).validate().isEmpty) }
    }

    @Test("presets select the switches of method section 5")
    func presetSwitches() {
        let released = MethodSettings(fidelity: .released)
        #expect(released.rollout.window == WindowSettings(size: 2, start: .fixed(0)))
        #expect(released.rollout.latentPrecision == .bf16)
        #expect(released.reward.featureNormalization == .trainRawScoreUnit)
        #expect(released.reward.resize == .trainPILScoreTensor)
        #expect(released.discriminator.globalLossWeight == 1 && released.discriminator.patchLossWeight == 0.3)
        #expect(released.discriminator.precision == .bf16)
        #expect(released.policy.advantageStandardDeviation == .global)
        #expect(
            released.schedule
                == {
                    var s = ScheduleSettings(fidelity: .released); s.kind = .released; return s
                }())
        #expect(released.schedule.discriminatorEpochs == 9)
        let paper = MethodSettings(fidelity: .paper)
        #expect(paper.rollout.window.start == .noiseRange)
        #expect(paper.discriminator.globalLossWeight == 0.7 && paper.discriminator.patchLossWeight == 0.3)
        #expect(paper.policy.advantageStandardDeviation == .group)
        #expect(paper.schedule.kind == .paper && paper.schedule.discriminatorEpochs == 10)
        let fixed = MethodSettings(fidelity: .fixed)
        #expect(fixed.rollout.window.start == .drawn && fixed.rollout.latentPrecision == .fp32)
        #expect(fixed.schedule.kind == .everyRollout)
    }

    @Test("released hyper-parameters are those of method 1.12")
    func releasedNumbers() {
        let method = MethodSettings(fidelity: .released)
        #expect(method.policy.lora.rank == 32 && method.policy.lora.alpha == 64)
        #expect(method.policy.lora.targets.isEmpty)
        #expect(method.policy.learningRate == 3e-4 && method.policy.betas == AdamBetas(0.9, 0.999))
        #expect(method.policy.epsilon == 1e-8 && method.policy.weightDecay == 1e-4)
        #expect(method.policy.clipRange == 1e-5 && method.policy.advantageClip == 5 && method.policy.klWeight == 0)
        #expect(method.rollout.noiseLevel == 0.8 && method.rollout.steps == 10 && method.rollout.guidance == 4.5)
        #expect(method.discriminator.learningRate == 1e-4 && method.discriminator.betas == AdamBetas(0.5, 0.999))
        #expect(method.rollout.groupsPerEpoch * method.rollout.groupSize == 768)
        #expect(method.policy.updatesPerEpoch == 2)
        #expect(method.policy.ema.decay == 0.9 && method.policy.ema.every == 8)
    }

    @Test("the preset comes before explicit keys, wherever it is written")
    func presetThenKeys() throws {
        let settings = try Settings.parse("rollout: {window: {start: noise-range}}\nfidelity: released\n")
        #expect(settings.method.rollout.window.start == .noiseRange)
        #expect(settings.method.schedule.kind == .released)
        let overridden = try Settings.parse("fidelity: released", overrides: ["fidelity=paper"])
        #expect(overridden.method == MethodSettings(fidelity: .paper))
    }

    @Test("overrides set single keys, groups and lists")
    func overrides() throws {
        let settings = try Settings.parse(
            "seed: 3",
            overrides: [
                "seed=9", "rollout.window={size: 1, start: 3}", "reward.layers=[0, 2, -1]", "policy.learningRate=1e-5",
                "discriminator.betas=[0.0, 0.9]", "discriminator.train=false", "data.references=a b/x.json",
            ])
        #expect(settings.seed == 9)
        #expect(settings.method.rollout.window == WindowSettings(size: 1, start: .fixed(3)))
        #expect(settings.method.reward.layers == [0, 2, -1])
        #expect(settings.method.policy.learningRate == 1e-5)
        #expect(settings.method.discriminator.betas == AdamBetas(0, 0.9))
        #expect(!settings.method.discriminator.train)
        #expect(settings.data.references == "a b/x.json")
    }

    @Test("all problems are reported at once, with line and nearest key")
    func allProblemsAtOnce() {
        let text = """
            sead: 1
            rollout:
              stpes: 10
              groupSize: sixteen
              guidence: 2
            policy:
              learningRate: -1
            steps: 4
            run: 7
            """
        let found = problems(text, overrides: ["cluster.worker=2", "seed"])
        #expect(
            found == [
                "line 1: sead is not a setting; did you mean seed?",
                "line 3: rollout.stpes is not a setting; did you mean rollout.steps?",
                "line 4: rollout.groupSize must be a whole number (2...4096), not \"sixteen\"",
                "line 5: rollout.guidence is not a setting; did you mean rollout.guidance?",
                "line 8: steps is not a setting; did you mean rollout.steps?",
                "line 9: run must hold keys, not \"7\"",
                "--set: cluster.worker is not a setting; did you mean cluster.workers?",
                "--set: seed must have the form key.path=value",
                "line 7: policy.learningRate must be > 0, not -1",
            ])
    }

    @Test(
        "wrong types and ranges are named",
        arguments: [
            ("seed: 1.5", "seed must be a whole number"), ("seed: \"1\"", "seed must be a whole number"),
            ("seed: [1]", "not a list of 1"), ("seed:", "not nothing"), ("model: ''", "model must not be empty"),
            ("rollout: {noiseLevel: .nan}", "must be a number"),
            ("rollout: {noiseLevel: 1.5}", "at most 1 for sde cps"),
            ("discriminator: {train: 1}", "true or false"), ("discriminator: {betas: [0.9]}", "two numbers"),
            ("discriminator: {betas: [0.9, 1]}", "each 0..<1"), ("schedule: {kind: relesed}", "one of released, paper"),
            ("rollout: {window: {start: later}}", "a step index in 0...999, drawn, noise-range"),
            ("rollout: {window: {start: -1}}", "must be a step index in 0...999"),
            ("rollout: {window: {start: 9223372036854775806}}", "must be a step index in 0...999"),
            ("rollout: {window: {start: 9}}", "do not fit"),
            ("rollout: {window: {start: 8}}", "must not reach the last"),
            ("rollout: {steps: 1, window: {size: 1}}", "do not fit"),
            ("reward: {weights: {dino_patch: 0}}", "at least one weight"),
            ("reward: {weights: {dino_patch: 0, image_similarity: 1}}", "at least one weight of the discriminator's"),
            ("reward: {weights: {pickscore: 1}}", "rewardModels.pickscore"),
            ("reward: {weights: {pikscore: 1}}", "did you mean reward.weights.pickscore?"),
            (
                "reward: {weights: {beauty: 1}}",
                "reward.weights.beauty is not a setting; reward.weights has dino_cls, dino_patch, dino_multilayer, "
                    + "dino_statistics, texture, thumbnail, pickscore_adversarial, dino_projected, dino_relative, "
                    + "image_similarity, pickscore, siglip, "
                    + "aesthetic, jpeg_compressibility"
            ),
            ("rewardModels: {beauty: a}", "rewardModels has pickscore_adversarial, pickscore, siglip, aesthetic"),
            ("engine: cuda", "engine must be one of onednn, openblas, not \"cuda\""),
            ("reward: {weights: {pickscore_adversarial: 1}}", "rewardModels.pickscore_adversarial"),
            (
                "{reward: {weights: {dino_patch: 0, pickscore_adversarial: 1}}, discriminator: {realBatch: 8}}",
                "discriminator.realBatch must be 0, not 8: pickscore_adversarial learns from pairs"
            ),
            ("discriminator: {tunedLayers: 0}", "discriminator.tunedLayers"),
            ("reward: {layers: []}", "at least one number"), ("reward: {layers: [1, 1]}", "twice"),
            ("reward: {statistics: [meen]}", "must be a list of mean, deviation, maximum, minimum"),
            ("reward: {statistics: []}", "at least one entry"), ("reward: {statistics: [mean, mean]}", "twice"),
            ("policy: {updatesPerEpoch: 49}", "must be at most rollout.groupsPerEpoch (48)"),
            ("policy: {adapter: full, klWeight: 0.1}", "needs policy.adapter lora"),
            ("cluster: {endpoints: {learner: localhost}}", "must be tcp://HOST:PORT"),
            ("seed: 1\nseed: 2", "written twice"), ("a: [1", "not YAML"), ("- 1", "must hold keys"),
        ])
    func refused(text: String, expected: String) {
        let found = problems(text)
        #expect(found.count >= 1)
        #expect(found.joined(separator: "\n").contains(expected), "\(found)")
    }

    @Test("a supervised start leaves an epoch to what follows")
    func start() {
        func problems(_ epochs: Int, _ more: String...) -> [String] {
            self.problems(
                "", overrides: ["policy.start=sft(25)", "supervised.stepsPerEpoch=10", "run.epochs=\(epochs)"] + more)
        }
        #expect(problems(4).isEmpty)
        for epochs in [1, 3] {
            let found = problems(epochs)
            #expect(found.count == 1)
            #expect(
                found.first?.contains(
                    "run.epochs must be above 3, the epochs of policy.start sft(25) at supervised.stepsPerEpoch 10, or no epoch of "
                        + "adv-grpo follows; not \(epochs); use algorithm sft") == true, "\(found)")
        }
        let frozen = ["reward.weights={dino_patch: 0, image_similarity: 1}", "algorithm=flow-grpo"]
        #expect(problems(3, frozen[0], frozen[1]).count == 1 && problems(4, frozen[0], frozen[1]).isEmpty)
        #expect(self.problems("", overrides: ["algorithm=sft", "run.epochs=1"]).isEmpty)
        // What is wrong itself is told alone.
        #expect(problems(3, "supervised.stepsPerEpoch=0").count == 1)
    }

    @Test("a byte-order mark and CR LF change no setting")
    func byteOrderMark() throws {
        let plain = try Data(contentsOf: URL(fileURLWithPath: repositoryRoot + "/deploy/settings/tiny.yaml"))
        let text = String(decoding: plain, as: UTF8.self).replacingOccurrences(of: "\n", with: "\r\n")
        try withTemporaryFolder { folder in
            let path = folder + "/settings.yaml"
            try Data([0xEF, 0xBB, 0xBF] + Array(text.utf8)).write(to: URL(fileURLWithPath: path))
            #expect(
                try Settings.load(path: path).digest
                    == Settings.load(path: repositoryRoot + "/deploy/settings/tiny.yaml").digest)
        }
    }

    @Test("a missing file is named")
    func missingFile() {
        #expect(throws: SettingsError.self) { try Settings.load(path: "/nowhere/settings.yaml") }
        do {
            _ = try Settings.load(path: "/nowhere/settings.yaml")
        } catch {
            #expect("\(error)" == "/nowhere/settings.yaml: does not exist; name a settings file")
        }
    }

    @Test("resolved settings name every key and read back as the same value")
    func resolvedRoundTrip() throws {
        for fidelity in Fidelity.allCases {
            var settings = Settings(fidelity: fidelity)
            settings.method.policy.learningRate = 1e-5
            settings.method.rollout.window.start = .fixed(3)
            settings.data.prompts = "odd: \"name\" # yes\u{7}.txt"
            settings.model = "yes"
            let text = settings.resolved()
            #expect(try Settings.parse(text) == settings)
            #expect(text.contains("learningRate: 1.0e-05"))
        }
    }

    @Test("the documented keys are exactly the keys of the value")
    func keysAreComplete() {
        func leaves(_ value: SettingValue, _ path: String) -> [String] {
            guard case .mapping(let entries) = value else { return [path] }
            return entries.flatMap { leaves($0.value, path.isEmpty ? $0.key : "\(path).\($0.key)") }
        }
        let declared = Settings.keys.map(\.description.path)
        #expect(Set(declared).count == declared.count)
        var settings = Settings()
        settings.method.rewardProcesses[SettingDescription.anyName] = RewardProcess()
        #expect(Set(declared) == Set(leaves(settings.tree(), "")))
        #expect(Settings.paths(in: settings.tree()) == declared)
    }

    @Test("digests change with what they cover and with nothing else")
    func digests() {
        let settings = Settings()
        var other = settings
        other.cluster.workers = 7
        #expect(settings.digest.count == 64 && settings.digest != other.digest)
        #expect(settings.methodDigest == other.methodDigest)
        other.method.rollout.steps = 11
        #expect(settings.methodDigest != other.methodDigest)
    }

    @Test("windows are drawn where they may lie")
    func windows() {
        #expect(WindowSettings(size: 2, start: .drawn).startCandidates(steps: 10) == Array(0...5))
        #expect(WindowSettings(size: 2, start: .noiseRange).startCandidates(steps: 10) == Array(0...3))
        #expect(WindowSettings(size: 2, start: .fixed(0)).startCandidates(steps: 10) == [0])
        #expect(WindowSettings(size: 3, start: .drawn).startCandidates(steps: 4) == [0])
        #expect(RewardSettings.blockIndices([-1, 0], depth: 6) == [5, 0])
        #expect(RewardSettings.blockIndices([6], depth: 6) == nil)
    }

    @Test("the committed settings files load", arguments: ["emoji", "few-step", "tiny"])
    func committedFiles(name: String) throws {
        let settings = try Settings.load(path: repositoryRoot + "/deploy/settings/\(name).yaml")
        #expect(settings.model == "Models/emoji-sd3-tiny")
        #expect(settings.cluster.workers == 2)
    }

    @Test("distance counts swaps as one mistake")
    func distance() {
        #expect(Spelling.editDistance("stpes", "steps") == 1)
        #expect(Spelling.editDistance("", "abc") == 3)
        #expect(Spelling.editDistance("kitten", "sitting") == 3)
        #expect(Spelling.nearest(to: "completelyElse", among: ["seed", "rollout.steps"]) == nil)
    }
}

/// The folder that holds Package.swift.
let repositoryRoot = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().path

@Suite("SettingsDocumentation")
struct SettingsDocumentationTests {
    @Test("docs/settings.md is what the declarations say")
    func documentation() throws {
        let url = URL(fileURLWithPath: repositoryRoot + "/docs/settings.md")
        if ProcessInfo.processInfo.environment["ADVGRPO_WRITE_DOCS"] == "1" {
            try Settings.documentation().write(to: url, atomically: true, encoding: .utf8)
        }
        #expect(try String(contentsOf: url, encoding: .utf8) == Settings.documentation())
    }
}
