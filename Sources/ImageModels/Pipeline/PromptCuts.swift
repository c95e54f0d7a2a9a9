internal import NeuralNetworks

/// What reads prompts, and how much of one.
public struct PromptReader: Sendable {
    /// As a warning calls it.
    public let name: String
    /// Tokens it reads, those at the beginning and end of every prompt among them.
    public let limit: Int
    /// Tokens of a whole prompt.
    public let tokenCount: @Sendable (String) -> Int

    /// Something with a tokenizer.
    public init(name: String, limit: Int, tokenCount: @escaping @Sendable (String) -> Int) {
        self.name = name
        self.limit = limit
        self.tokenCount = tokenCount
    }

    /// The text encoders of a pipeline folder, of which only the tokenizers are loaded: CLIP's two, which read the same number of
    /// tokens, and T5 where the pipeline has it.
    ///
    /// - Throws: `ModelError` naming the file, `SafeTensorsError` where a damaged file stands in the folder's place.
    public static func all(pipeline folder: String) throws -> [PromptReader] {
        try SingleFile.refuse(folder)
        let index = try PipelineIndex(folder: folder)
        let (first, second) = (
            try CLIPTokenizer(folder: folder + "/tokenizer"), try CLIPTokenizer(folder: folder + "/tokenizer_2")
        )
        let clip = PromptReader(name: "CLIP", limit: first.maximumLength) {
            max(first.tokens($0).count, second.tokens($0).count)
        }
        guard index.hasComponent("text_encoder_3") else { return [clip] }
        let third = try T5Tokenizer(folder: folder + "/tokenizer_3")
        return [
            clip, PromptReader(name: "T5", limit: SD3TextEncoder.standardThirdTokenCount) { third.tokens($0).count },
        ]
    }
}

/// Which prompts are longer than their readers read: what is behind the limit makes no difference to the model.
public struct PromptCuts: Sendable, Equatable {
    /// One reader's part.
    public struct Cut: Sendable, Equatable {
        /// The reader's name.
        public let reader: String
        /// Tokens it reads.
        public let limit: Int
        /// Prompts that have more.
        public let count: Int
        /// Tokens of the longest.
        public let longest: Int
    }

    /// Number of prompts looked at.
    public let promptCount: Int
    /// The readers that cut some.
    public let cuts: [Cut]
    /// The first prompt that one of them cuts.
    public let example: String

    /// Looks at prompts; nil when all are read to their ends.
    public init?(_ prompts: [String], readers: [PromptReader]) {
        var example: String?
        cuts = readers.compactMap { reader in
            let lengths = prompts.map(reader.tokenCount)
            let long = lengths.indices.filter { lengths[$0] > reader.limit }
            guard let first = long.first else { return nil }
            example = example ?? prompts[first]
            return Cut(
                reader: reader.name, limit: reader.limit, count: long.count, longest: lengths.max() ?? reader.limit)
        }
        guard let example else { return nil }
        self.example = example
        promptCount = prompts.count
    }

    /// One sentence.
    public var warning: String {
        let parts = cuts.map { cut in
            "\(cut.reader) cuts \(cut.count) of \(promptCount) prompts after \(cut.limit) tokens (the longest has \(cut.longest))"
        }
        return parts.joined(separator: ", ") + ": the rest of them is not seen; shorten for example "
            + "\"\(ConfigurationFile.abbreviated(example))\""
    }
}
