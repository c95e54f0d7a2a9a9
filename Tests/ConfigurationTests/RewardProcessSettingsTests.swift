import AdvGRPO
import Testing

@testable import Configuration

@Suite("Rewards of one's own in settings")
struct RewardProcessSettingsTests {
    private func problems(_ text: String, overrides: [String] = []) -> [String] {
        do {
            _ = try Settings.parse(text, overrides: overrides)
            return []
        } catch {
            return error.problems.map(\.description)
        }
    }

    @Test("a name is a key, and what it leaves out has its default")
    func reading() throws {
        let settings = try Settings.parse(
            "rewardProcesses:\n  redness: {endpoint: 'tcp://127.0.0.1:7001', weight: 0.5}\n  b2_: {endpoint: 'ipc:///s'}\n",
            overrides: ["rewardProcesses.redness.timeout=2", "rewardProcesses.b2_={weight: 0}"])
        var redness = RewardProcess()
        (redness.endpoint, redness.weight, redness.timeout) = ("tcp://127.0.0.1:7001", 0.5, 2)
        #expect(settings.method.rewardProcesses["redness"] == redness)
        #expect(settings.method.rewardProcesses["b2_"]?.endpoint == "ipc:///s")
        #expect(settings.method.activeRewardProcesses.map(\.name) == ["redness"])
        #expect(settings.method.rewardNames == ["dino_patch", "redness"])
        let text = settings.resolved()
        #expect(try Settings.parse(text) == settings)
        #expect(text.contains("rewardProcesses:\n  b2_:\n    endpoint: \"ipc:///s\"\n    weight: 0\n"))
        #expect(!Settings().resolved().contains("rewardProcesses"))
    }

    @Test("roles agree on names and weights, not on places and times")
    func digests() throws {
        func settings(_ keys: String) throws -> Settings {
            try Settings.parse("rewardProcesses: {redness: {endpoint: 'tcp://127.0.0.1:1', \(keys)}}")
        }
        let own = try settings("weight: 1")
        #expect(own.methodDigest != Settings().methodDigest)
        #expect(try settings("weight: 2").methodDigest != own.methodDigest)
        #expect(try settings("maps: true").methodDigest != own.methodDigest)
        let other = try Settings.parse(
            "rewardProcesses: {redness: {endpoint: 'ipc:///there', timeout: 1, patience: 2}}")
        #expect(other.methodDigest == own.methodDigest && other.digest != own.digest)
        #expect(
            other.differingKeys(from: own) == [
                "rewardProcesses.redness.endpoint", "rewardProcesses.redness.timeout",
                "rewardProcesses.redness.patience",
            ])
        #expect(Settings().differingKeys(from: own).first == "rewardProcesses.redness.endpoint")
    }

    @Test(
        "what cannot be is named",
        arguments: [
            ("{redness: {weight: 1}}", "rewardProcesses.redness.endpoint must be tcp://HOST:PORT or ipc://PATH"),
            ("{redness: }", "rewardProcesses.redness.endpoint must be"),
            ("{redness: {}}", "line 1: rewardProcesses.redness.endpoint must be"),
            ("{redness: {endpoint: 'inproc://a'}}", "not inproc://a"),
            ("{redness: {endpiont: 'ipc:///a'}}", "did you mean rewardProcesses.redness.endpoint?"),
            (
                "{redness: {colour: red}}",
                "rewardProcesses.redness.colour is not a setting; rewardProcesses.redness has endpoint, weight, maps, "
                    + "timeout, patience"
            ), ("{redness: 3}", "rewardProcesses.redness must hold keys, not \"3\""),
            ("[redness]", "rewardProcesses must hold keys, not a list of 1"),
            (
                "{redness: {endpoint: 'ipc:///a', weight: -1}}",
                "rewardProcesses.redness.weight must be 0...1000000, not -1"
            ), ("{redness: {endpoint: 'ipc:///a', weight: many}}", "rewardProcesses.redness.weight must be a number"),
            ("{redness: {endpoint: 'ipc:///a', timeout: 0}}", "rewardProcesses.redness.timeout must be 0.01...3600"),
            ("{redness: {endpoint: 'ipc:///a', patience: 2}}", "patience must be at least timeout (30), not 2"),
            ("{texture: {endpoint: 'ipc:///a'}}", "rewardProcesses.texture is a reward of the program's own"),
            ("{mean: {endpoint: 'ipc:///a'}}", "rewardProcesses.mean is the name of another figure"),
            ("{2a: {endpoint: 'ipc:///a'}}", "rewardProcesses.2a must be a letter, then letters"),
            ("{'': {endpoint: 'ipc:///a'}}", "is not a setting"),
            ("{a.b: {endpoint: 'ipc:///a'}}", "rewardProcesses.a.b is not a setting"),
            ("{é: {endpoint: 'ipc:///a'}}", "must be a letter"),
            ("{a: {endpoint: 'ipc:///a'}, a: {endpoint: 'ipc:///b'}}", "written twice"),
        ]) func refused(text: String, expected: String)
    {
        let found = problems("rewardProcesses: " + text)
        #expect(found.joined(separator: "\n").contains(expected), "\(found)")
    }

    @Test("patches are credited by a process that has maps, where nothing else has")
    func maps() {
        func problems(_ process: String) -> String {
            self.problems(
                "{reward: {weights: {dino_patch: 0, jpeg_compressibility: 1}}, policy: {advantage: patch}, "
                    + "rewardProcesses: {r: {endpoint: 'ipc:///a'\(process)}}}"
            ).joined()
        }
        #expect(problems("").contains("needs a reward that makes a map"))
        #expect(!problems(", maps: true").contains("needs a reward that makes a map"))
    }
}
