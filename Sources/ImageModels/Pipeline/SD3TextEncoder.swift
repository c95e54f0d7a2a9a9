public import NeuralNetworks
public import TensorCore

/// SD3's text encoders with their tokenizers: two of CLIP, and T5 where the pipeline has it.
///
/// Tokens of the CLIP encoders are joined along the width and padded with zeros to the transformer's width; T5's tokens follow along
/// the sequence. Where a pipeline has no T5, diffusers puts zeros there, and so does this: they pass the transformer's
/// projection and are attended to, so their number matters.
///
/// - Source: diffusers pipeline_stable_diffusion_3.py, `encode_prompt`. Differences: none.
public struct SD3TextEncoder: Sendable {
    private let encoders: [CLIPTextEncoder]
    private let tokenizers: [CLIPTokenizer]
    private let third: (encoder: T5Encoder, tokenizer: T5Tokenizer)?
    private let tokenWidth: Int
    /// Tokens of T5, or of zeros in their place.
    public let thirdTokenCount: Int
    private let engine: any Engine

    /// diffusers' `max_sequence_length`, tokens of T5 unless said otherwise.
    static let standardThirdTokenCount = 256

    /// Loads tokenizers and text encoders of a pipeline.
    ///
    /// T5's sequences have 256 tokens, as diffusers' `max_sequence_length` says, and the zeros in its place as many as the first
    /// tokenizer's.
    ///
    /// - Parameter pooledOnly: leaves T5 out, for `pooled` alone.
    /// - Throws: `ModelError`, `SafeTensorsError`.
    public init(
        _ files: PipelineFiles, engine: any Engine, dtype: DType = .float32, pooledOnly: Bool = false
    ) throws {
        let folder = files.folder
        let index = try PipelineIndex(folder: folder)
        let transformer = try MMDiTConfiguration(path: folder + "/transformer/config.json")
        tokenWidth = transformer.jointAttentionWidth
        tokenizers = try ["tokenizer", "tokenizer_2"].map { try CLIPTokenizer(folder: folder + "/" + $0) }
        encoders = try [PipelinePart.firstTextEncoder, .secondTextEncoder].map {
            try CLIPTextEncoder(
                CLIPTextConfiguration(path: files.folder(of: $0) + "/config.json"),
                weights: files.weights(of: $0, engine: engine, dtype: dtype))
        }
        third =
            index.hasComponent("text_encoder_3") && !pooledOnly
            ? (
                try T5Encoder(
                    T5EncoderConfiguration(path: files.folder(of: .thirdTextEncoder) + "/config.json"),
                    weights: files.weights(of: .thirdTextEncoder, engine: engine, dtype: dtype)),
                try T5Tokenizer(folder: folder + "/tokenizer_3")
            ) : nil
        thirdTokenCount = third == nil ? tokenizers[0].maximumLength : Self.standardThirdTokenCount
        self.engine = engine
        try validate(folder: folder, transformer: transformer)
    }

    private func validate(folder: String, transformer: MMDiTConfiguration) throws {
        func refuse(_ message: String) -> ModelError {
            ModelError(code: .configuration, source: folder, message: message)
        }
        let width = encoders.reduce(0) { $0 + $1.configuration.width }
        guard width <= tokenWidth else {
            throw refuse("the text encoders are \(width) wide together, the transformer takes \(tokenWidth)")
        }
        let pooled = encoders.reduce(0) { $0 + $1.configuration.projectionWidth }
        guard pooled == transformer.pooledWidth else {
            throw refuse(
                "the text encoders' projections are \(pooled) wide together, the transformer takes \(transformer.pooledWidth)"
            )
        }
        if let third, third.encoder.configuration.width != tokenWidth {
            throw refuse(
                "text_encoder_3 is \(third.encoder.configuration.width) wide, the transformer takes \(tokenWidth)")
        }
        if let third, third.tokenizer.largestTokenID >= third.encoder.configuration.vocabularySize {
            throw refuse(
                "text_encoder_3 knows \(third.encoder.configuration.vocabularySize) tokens, its tokenizer makes tokens up to "
                    + "\(third.tokenizer.largestTokenID)")
        }
        for (number, encoder) in encoders.enumerated() {
            // Both sequences have the first tokenizer's length, as in the reference.
            guard encoder.configuration.positionCount >= tokenizers[0].maximumLength else {
                throw refuse(
                    "text encoder \(number + 1) has \(encoder.configuration.positionCount) positions, the tokenizer makes "
                        + "\(tokenizers[0].maximumLength) tokens")
            }
            guard tokenizers[number].largestTokenID < encoder.configuration.vocabularySize else {
                throw refuse(
                    "text encoder \(number + 1) knows \(encoder.configuration.vocabularySize) tokens, its tokenizer makes tokens "
                        + "up to \(tokenizers[number].largestTokenID)")
            }
        }
    }

    /// What each CLIP encoder says of prompts.
    private func outputs(_ prompts: [String]) -> [CLIPTextOutput] {
        precondition(!prompts.isEmpty, "SD3TextEncoder: no prompts")
        let length = tokenizers[0].maximumLength
        return zip(encoders, tokenizers).map { encoder, tokenizer in
            encoder(prompts.map { tokenizer.padded($0, length: length) })
        }
    }

    /// Pooled embeddings of prompts, one row a prompt, fp32: both CLIP encoders' side by side.
    public func pooled(_ prompts: [String]) -> Tensor { pooled(outputs(prompts)) }

    private func pooled(_ outputs: [CLIPTextOutput]) -> Tensor {
        concatenated(outputs.map { $0.pooled.converted(to: .float32) }, axis: 1)
    }

    /// Embeddings of prompts, one row a prompt, fp32; the negative prompt of guidance is the empty string.
    public func callAsFunction(_ prompts: [String]) -> Conditioning {
        let (outputs, length) = (outputs(prompts), tokenizers[0].maximumLength)
        let joined = concatenated(outputs.map { $0.penultimate.converted(to: .float32) }, axis: 2)
        let missing = tokenWidth - joined.shape[2]
        let wide =
            missing == 0
            ? joined : concatenated([joined, engine.zeros([prompts.count, length, missing])], axis: 2)
        let text = thirdTokenCount == 0 ? wide : concatenated([wide, thirdTokens(prompts)], axis: 1)
        return Conditioning(text_BSD: text, pooled_BP: pooled(outputs))
    }

    private func thirdTokens(_ prompts: [String]) -> Tensor {
        guard let third else { return engine.zeros([prompts.count, thirdTokenCount, tokenWidth]) }
        return third.encoder(prompts.map { third.tokenizer.padded($0, length: thirdTokenCount) }).converted(
            to: .float32)
    }
}

/// A pipeline's `model_index.json`: which parts it has.
struct PipelineIndex {
    private let parts: [String: Part]

    private enum Part: Decodable {
        /// With the name of its class.
        case present(String?)
        case absent
        case setting

        init(from decoder: any Decoder) throws {
            guard let entry = try? decoder.singleValueContainer().decode([String?].self) else {
                self = .setting
                return
            }
            self = entry.contains(nil) ? .absent : .present(entry.last ?? nil)
        }
    }

    /// Reads and checks the pipeline's class.
    ///
    /// - Throws: `configuration`, `unsupported`.
    init(folder: String) throws(ModelError) {
        let path = folder + "/model_index.json"
        parts = try ConfigurationFile.read([String: Part].self, path: path)
        struct Header: Decodable { var _class_name: String? }
        let name = try ConfigurationFile.read(Header.self, path: path)._class_name ?? "nothing"
        guard name == StableDiffusion3Pipeline.className else {
            throw ModelError(
                code: .unsupported, source: path,
                message:
                    "describes \(ConfigurationFile.abbreviated(name)), expected a \(StableDiffusion3Pipeline.className)"
            )
        }
        if case .present(let name?)? = parts["scheduler"], name != FlowMatchSchedule.className {
            throw ModelError(
                code: .unsupported, source: path,
                message:
                    "has the scheduler \(ConfigurationFile.abbreviated(name)), expected \(FlowMatchSchedule.className): "
                    + "another class makes other noise levels of the same scheduler_config.json")
        }
        for part in ["transformer", "vae", "scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"]
        where !hasComponent(part) {
            throw ModelError(code: .unsupported, source: path, message: "has no \(part)")
        }
    }

    func hasComponent(_ name: String) -> Bool {
        if case .present = parts[name] { true } else { false }
    }
}
