import AdvGRPO
import Foundation
import NeuralNetworks
import TestSupport
import Testing

@testable import MethodModels
@testable import TensorCore

/// Embeddings from disk are those of the text encoder, bit for bit, or are made again.
@Suite(.optimized, .serialized) final class EmbeddingCacheTests {
    private let root = FileManager.default.temporaryDirectory.path + "/embeddings-\(UUID().uuidString.prefix(8))"
    private let model = Repository.models + "/emoji-sd3-tiny"
    private let prompts = ["a red apple", "a green square on a blue ground", "", "déjà vu / ../x"]

    deinit { try? FileManager.default.removeItem(atPath: root) }

    private func policy(
        cached: Bool = true, model: String? = nil, dtype: DType = .float32, engine: any Engine = OneDNNEngine.shared
    ) throws -> DiffusionPolicy {
        try DiffusionPolicy(
            PolicySource(path: model ?? self.model, engine: engine, dtype: dtype),
            settings: PolicySettings(fidelity: .fixed), seed: 1, embeddings: cached ? root + "/embeddings" : nil)
    }

    private func bits(_ policy: DiffusionPolicy, _ prompt: String) throws -> [[UInt8]] {
        let conditioning = try policy.conditioning(prompt)
        return [conditioning.positive, conditioning.negative].flatMap {
            [policy.engine.bytes(of: $0.text_BSD), policy.engine.bytes(of: $0.pooled_BP)]
        }
    }

    private var files: [String] {
        (FileManager.default.enumerator(atPath: root)?.compactMap { $0 as? String } ?? [])
            .filter { $0.hasSuffix(".safetensors") }.map { root + "/" + $0 }.sorted()
    }

    @Test("with an empty cache, with a full one and without any: the same bits", arguments: DType.allCases)
    func sameBits(_ dtype: DType) throws {
        let plain = try policy(cached: false, dtype: dtype)
        let expected = try prompts.map { try bits(plain, $0) }
        let cold = try policy(dtype: dtype)
        #expect(!cold.hasTextEncoder, "the text encoder is loaded when it is needed")
        #expect(try prompts.map { try bits(cold, $0) } == expected)
        #expect(cold.hasTextEncoder && files.count == prompts.count)
        let warm = try policy(dtype: dtype)
        #expect(try prompts.map { try bits(warm, $0) } == expected)
        #expect(!warm.hasTextEncoder, "a full cache needs no text encoder")
        // One prompt more loads it.
        _ = try warm.conditioning("a yellow star")
        #expect(warm.hasTextEncoder && files.count == prompts.count + 1)
    }

    @Test("a damaged file is not believed and is made again")
    func damage() throws {
        let expected = try bits(policy(), prompts[0])
        let intact = try files.map { try Data(contentsOf: URL(fileURLWithPath: $0)) }
        for (number, file) in files.enumerated() {
            var flipped = intact[number]
            flipped[flipped.count - 3] ^= 1
            for damaged in [Data(), intact[number].prefix(100), intact[number].dropLast(4), flipped] {
                try damaged.write(to: URL(fileURLWithPath: file))
                let policy = try policy()
                #expect(try bits(policy, prompts[0]) == expected)
                #expect(policy.hasTextEncoder)
                #expect(try Data(contentsOf: URL(fileURLWithPath: file)) == intact[number], "made again")
            }
        }
        // A file of another prompt under this name is damage, too.
        let other = try policy()
        _ = try other.conditioning(prompts[1])
        let strange = try #require(
            files.first {
                !intact.isEmpty
                    && (try? Data(contentsOf: URL(fileURLWithPath: $0))).map { !intact.contains($0) } == true
            })
        try Data(contentsOf: URL(fileURLWithPath: strange)).write(
            to: URL(fileURLWithPath: files.first { $0 != strange }!))
        #expect(try bits(policy(), prompts[0]) == expected)
    }

    @Test("other text encoders, tokenizers, precisions and engines have embeddings of their own")
    func keys() throws {
        _ = try policy().conditioning("a red apple")
        let count = files.count
        let copy = root + "/model"
        try FileManager.default.createDirectory(atPath: root, withIntermediateDirectories: true)
        try FileManager.default.copyItem(atPath: model, toPath: copy)
        #expect(try bits(policy(model: copy), "a red apple") == bits(policy(), "a red apple"))
        #expect(files.filter { !$0.hasPrefix(copy) }.count == count, "a copy of the model is the same model")
        // The last byte of the weights; then a tokenizer's file.
        for (number, name) in ["text_encoder_2/model.safetensors", "tokenizer/merges.txt"].enumerated() {
            let url = URL(fileURLWithPath: "\(copy)/\(name)")
            var bytes = try Data(contentsOf: url)
            if number == 0 { bytes[bytes.count - 1] ^= 1 } else { bytes.append(10) }
            try bytes.write(to: url)
            let changed = try policy(model: copy)
            _ = try changed.conditioning("a red apple")
            #expect(changed.hasTextEncoder, "\(name)")
        }
        for changed in [try policy(dtype: .bfloat16), try policy(engine: OpenBLASEngine.shared)] {
            _ = try changed.conditioning("a red apple")
            #expect(changed.hasTextEncoder)
        }
    }

    @Test("a rehearsal finds what its run would find, and keeps nothing")
    func rehearsal() throws {
        let engine = RehearsalEngine(trace: MemoryTrace())
        let first = try policy(engine: engine)
        _ = try first.conditioning(first.hardest(of: prompts))
        #expect(first.hasTextEncoder && files.isEmpty)
        let real = try policy()
        for prompt in prompts { _ = try real.conditioning(prompt) }
        let second = try policy(engine: engine)
        _ = try second.conditioning(second.hardest(of: prompts))
        #expect(!second.hasTextEncoder)
        #expect(second.hardest(of: ["a red apple", "a new one"]) == "a new one")
    }

    @Test("a folder that cannot be made is named")
    func refuses() throws {
        try FileManager.default.createDirectory(atPath: root, withIntermediateDirectories: true)
        try Data().write(to: URL(fileURLWithPath: root + "/embeddings"))
        #expect { try policy() } throws: { "\($0)".contains(root + "/embeddings") }
    }
}
