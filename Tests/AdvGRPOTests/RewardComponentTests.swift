import Foundation
import Testing

@testable import AdvGRPO

/// The table of rewards and the weights by name.
@Suite struct RewardComponentTests {
    @Test("names stand once; the place of a head, on which its first weights depend, is what it was")
    func table() {
        let names = RewardComponent.allCases.map(\.rawValue)
        #expect(Set(names).count == names.count)
        #expect(
            names.prefix(8) == [
                "dino_cls", "dino_patch", "dino_multilayer", "dino_statistics", "texture", "thumbnail",
                "pickscore_adversarial", "dino_projected",
            ])
        #expect(RewardComponent.heads.allSatisfy { $0.isAdversarial && !$0.isFrozen && $0.frozenName == nil })
        #expect(RewardComponent.untrained.allSatisfy { !$0.isAdversarial && $0.frozenName != nil && $0.divisor > 0 })
        // Two rows of one type would be loaded as the same reward.
        let types = RewardComponent.untrained.compactMap(\.frozenName).map { ObjectIdentifier($0) }
        #expect(Set(types).count == types.count)
        #expect(RewardComponent(rawValue: "texture") == .texture && RewardComponent(rawValue: "Texture") == nil)
    }

    @Test("weights are a map by name: what is not named is 0, an unknown name is refused")
    func weights() throws {
        #expect(RewardWeights().active == [.patch] && RewardWeights()[.patch] == 1)
        let weights: RewardWeights = [.imageSimilarity: 0.5, .cls: 2]
        #expect(weights.active == [.cls, .imageSimilarity] && weights[.patch] == 0)
        let text = try JSONEncoder().encode(weights)
        let written = try JSONDecoder().decode([String: Double].self, from: text)
        #expect(Set(written.keys) == Set(RewardComponent.allCases.map(\.rawValue)) && written["dino_cls"] == 2)
        #expect(try JSONDecoder().decode(RewardWeights.self, from: text) == weights)
        #expect(throws: DecodingError.self) {
            try JSONDecoder().decode(RewardWeights.self, from: Data(#"{"beauty": 1}"#.utf8))
        }
    }
}
