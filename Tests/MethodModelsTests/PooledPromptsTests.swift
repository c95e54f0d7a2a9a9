import AdvGRPO
import Foundation
import NeuralNetworks
import TestSupport
import Testing

@testable import MethodModels
@testable import TensorCore

/// A prompt's pooled embedding is that of its conditioning, from wherever it comes.
@Suite("pooled embeddings of prompts") struct PooledPromptsTests {
    private let model = Repository.models + "/emoji-sd3-tiny"
    private let prompts = ["a red apple", "a green square on a blue ground", ""]

    @Test("the bits of the policy's conditioning, computed or kept by a worker", arguments: DType.allCases)
    func sameBits(_ dtype: DType) throws {
        try withTemporaryFolder { folder in
            let source = try PolicySource(path: model, engine: OneDNNEngine.shared, dtype: dtype)
            let policy = try DiffusionPolicy(
                source, settings: PolicySettings(fidelity: .fixed), seed: 1, embeddings: folder + "/embeddings")
            let expected = try prompts.map { try policy.conditioning($0).positive.pooled_BP.values }
            for embeddings in ["", folder + "/embeddings", folder + "/others"] {
                let pooled = try PooledPrompts(source, embeddings: embeddings)
                #expect(prompts.map { pooled($0).values } == expected)
                #expect(pooled.width == expected[0].count && pooled(prompts[0]).shape == [pooled.width])
            }
            #expect(expected[0] != expected[1])
        }
    }

    @Test("a model that has no smaller encoder takes the whole one")
    func standard() throws {
        try withTemporaryFolder { folder in
            let files = try PolicyFiles(path: folder, among: [PointMass.self])
            let pooled = try PooledPrompts(PolicySource(files, engine: OpenBLASEngine.shared), embeddings: "")
            #expect(pooled.width == 2 && pooled("a red ball").values == [1, 0] && pooled("green").values == [0, 1])
        }
    }
}
