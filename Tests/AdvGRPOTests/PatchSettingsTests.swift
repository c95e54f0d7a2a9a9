import AdvGRPO
import Testing

@Suite("settings of patch advantages")
struct PatchSettingsTests {
    private func violations(_ change: (inout MethodSettings) -> Void) -> [SettingViolation] {
        var settings = MethodSettings(fidelity: .fixed)
        change(&settings)
        return settings.validate()
    }

    @Test("every preset takes patches, alone and beside images", arguments: Fidelity.allCases, AdvantageKind.allCases)
    func presets(fidelity: Fidelity, kind: AdvantageKind) {
        var settings = MethodSettings(fidelity: fidelity)
        #expect(settings.policy.advantage == .image)
        settings.policy.advantage = kind
        #expect(settings.validate() == [])
    }

    @Test("a reward that tells no places apart is refused by name", arguments: [AdvantageKind.patch, .both])
    func noMaps(kind: AdvantageKind) throws {
        let found = violations {
            $0.policy.advantage = kind
            $0.reward.weights = [.pickScoreAdversarial: 1]
            $0.discriminator.realBatch = 0
        }
        #expect(found.map(\.path) == ["policy.advantage"])
        let message = try #require(found.first?.message)
        #expect(message.contains("pickscore_adversarial makes none") && message.contains("dino_patch"), "\(message)")
        // Beside one that does it counts alike at every place.
        let both = violations {
            $0.policy.advantage = kind
            $0.reward.weights = [.pickScoreAdversarial: 1, .texture: 1]
        }
        #expect(both == [])
    }

    @Test("maps by gradients to pixels need images that have gradients")
    func pixels() {
        func change(_ kind: AdvantageKind, _ component: RewardComponent) -> [String] {
            violations {
                $0.policy.advantage = kind
                $0.reward.weights = [component: 1]
                $0.reward.resize = .pil
            }.map(\.path)
        }
        #expect(change(.patch, .cls) == ["reward.resize"])
        #expect(change(.image, .cls) == [] && change(.patch, .patch) == [] && change(.both, .texture) == [])
    }

    @Test("a weight or a blur that nothing reads is refused by name")
    func unread() {
        func paths(_ kind: AdvantageKind, weight: Double = 1, blur: Double = 0) -> [String] {
            violations {
                $0.policy.advantage = kind
                $0.policy.patchWeight = weight
                $0.policy.patchBlur = blur
            }.map(\.path)
        }
        #expect(
            paths(.image, weight: 2) == ["policy.patchWeight"] && paths(.patch, weight: 2) == ["policy.patchWeight"])
        #expect(paths(.image, blur: 1) == ["policy.patchBlur"])
        #expect(paths(.both, weight: 2, blur: 1) == [] && paths(.patch, blur: 1) == [])
        #expect(paths(.both, weight: 0) == ["policy.patchWeight"] && paths(.both, blur: -1) == ["policy.patchBlur"])
    }
}
