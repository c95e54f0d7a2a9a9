import AdvGRPO
import NeuralNetworks
public import TensorCore

/// Pooled embeddings of prompts by a policy's text encoders, each computed once: what a discriminator that is told the prompt
/// reads.
public struct PooledPrompts: Sendable {
    /// Length of an embedding.
    public let width: Int
    private let encoder: PooledTextEncoder
    /// Where workers of this machine keep embeddings; nil where they do not.
    private let cache: EmbeddingCache?
    private let engine: any Engine
    private let known = RememberedTensors()

    /// Loads those text encoders that the pooled embedding comes from.
    ///
    /// - Parameters:
    ///   - source: where the policy's model lies, and what computes it.
    ///   - embeddings: folder that keeps embeddings of prompts between processes; empty for none.
    /// - Throws: `ModelError`, `SafeTensorsError` naming the file.
    public init(_ source: PolicySource, embeddings: String) throws {
        engine = source.engine
        encoder = try source.files.model.pooledTextEncoder(source)
        cache = embeddings.isEmpty ? nil : try EmbeddingCache(root: embeddings, source: source)
        width = encoder("").count
    }

    /// A prompt's embedding, fp32 [width].
    public func callAsFunction(_ prompt: String) -> Tensor {
        known.tensor(of: prompt) {
            engine.noting(.caches) {
                if let kept = cache?.embedding(prompt)?.pooled_BP, kept.count == width { return kept.reshaped(-1) }
                return encoder(prompt)
            }
        }
    }
}
