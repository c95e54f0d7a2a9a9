import AdvGRPO
import Foundation
import NeuralNetworks
import Platform
import SafeTensors
import TensorCore

/// Embeddings of prompts on disk, so that a text encoder that is larger than all else need not be loaded to find the same
/// numbers again.
///
/// A prompt is one safetensors file `FOLDER/KEY/SHA256-OF-PROMPT.safetensors` with `text` [1, T, J] and `pooled` [1, P], fp32. KEY is the
/// SHA-256 of everything that decides about the numbers: the digests of all text encoders and tokenizers, the network's
/// configuration, precision, and the engine with its kernels. Files are written whole or not at all, by any number of
/// processes at once: all write the same bytes. One that is damaged is replaced.
struct EmbeddingCache: Sendable {
    private let folder: String
    private let engine: any Engine

    /// Reads the bytes of the model's text encoders once, which is less than loading them.
    ///
    /// - Parameters:
    ///   - root: the cache's folder; made when it is missing.
    ///   - source: of the model.
    /// - Throws: `ModelError` naming the file.
    init(root: String, source: PolicySource) throws {
        engine = source.engine
        // A rehearsal looks for what the engine it stands for would find.
        let computing = engine.computes ? engine : OneDNNEngine.shared
        var hash = SHA256()
        hash.update("advgrpo embeddings 1\n\(computing.name)\n\(computing.kernel)\n\(source.dtype.rawValue)\n")
        for (part, digest) in try ModelDigest.parts(of: source.files, [.text]).sorted(by: { $0.key < $1.key }) {
            hash.update("\(part) \(digest)\n")
        }
        for path in [source.files.file("model_index.json"), try source.files.part(.network)?.configuration] {
            guard let path else { continue }
            try Files<ModelError>.read(path).withUnsafeBytes { hash.update($0) }
        }
        folder = "\(root)/\(hash.hexadecimal)"
        // A rehearsal writes nothing.
        guard engine.computes else { return }
        do {
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        } catch {
            throw ModelError(
                code: .configuration, source: root,
                message: "the embeddings' folder cannot be made: \(error.localizedDescription)")
        }
    }

    private func path(_ prompt: String) -> String {
        "\(folder)/\(SHA256.hexadecimal(of: prompt)).safetensors"
    }

    /// Whether there is a file for a prompt; it may be damaged.
    func contains(_ prompt: String) -> Bool { FileManager.default.fileExists(atPath: path(prompt)) }

    /// A prompt's embedding; nil where there is none, or a damaged one.
    func embedding(_ prompt: String) -> Conditioning? {
        guard let file = try? SafeTensorsFile(path: path(prompt)), let text = file["text"], let pooled = file["pooled"],
            text.shape.count == 3, pooled.shape.count == 2, text.shape[0] == 1, pooled.shape[0] == 1,
            let texts = try? file.floats(of: "text"), let pools = try? file.floats(of: "pooled"),
            file.metadata["prompt"] == prompt, file.metadata["sha256"] == Self.digest(texts, pools)
        else { return nil }
        return Conditioning(
            text_BSD: engine.tensor(texts, shape: text.shape), pooled_BP: engine.tensor(pools, shape: pooled.shape))
    }

    /// Keeps a prompt's embedding.
    ///
    /// - Throws: `SafeTensorsError` naming the file.
    func keep(_ embedding: Conditioning, of prompt: String) throws {
        // What a rehearsal has is no embedding.
        guard engine.computes else { return }
        let tensors = Parameters(["text": embedding.text_BSD, "pooled": embedding.pooled_BP])
        try tensors.write(
            to: path(prompt),
            metadata: [
                "prompt": prompt, "sha256": Self.digest(embedding.text_BSD.values, embedding.pooled_BP.values),
            ])
    }

    private static func digest(_ text: [Float], _ pooled: [Float]) -> String {
        var hash = SHA256()
        text.withUnsafeBytes { hash.update($0) }
        pooled.withUnsafeBytes { hash.update($0) }
        return hash.hexadecimal
    }
}
