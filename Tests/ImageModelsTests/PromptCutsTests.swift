import Foundation
import ImageModels
import TestSupport
import Testing

/// Prompts that are longer than the text encoders read.
@Suite struct PromptCutsTests {
    private let words = PromptReader(name: "CLIP", limit: 3) { $0.split(separator: " ").count }
    private let letters = PromptReader(name: "T5", limit: 9) { $0.count }

    @Test("each reader's cuts are counted apart, and one prompt is shown")
    func counts() throws {
        let prompts = ["a b c", "a b c d", "abcdefghij", "a b c d e f g h i j k l m n o p q r s t u v w x y z"]
        #expect(PromptCuts(["a b c", ""], readers: [words, letters]) == nil)
        #expect(PromptCuts([], readers: [words]) == nil)
        let cuts = try #require(PromptCuts(prompts, readers: [words, letters]))
        #expect(cuts.promptCount == 4 && cuts.example == "a b c d")
        #expect(cuts.cuts.map(\.reader) == ["CLIP", "T5"] && cuts.cuts.map(\.limit) == [3, 9])
        #expect(cuts.cuts.map(\.count) == [2, 2] && cuts.cuts.map(\.longest) == [26, 51])
        #expect(
            cuts.warning
                == "CLIP cuts 2 of 4 prompts after 3 tokens (the longest has 26), T5 cuts 2 of 4 prompts after 9 tokens "
                + "(the longest has 51): the rest of them is not seen; shorten for example \"a b c d\"")
        let long = try #require(PromptCuts([prompts[3]], readers: [words]))
        #expect(long.warning.hasSuffix("\"a b c d e f g h i j k l m n o p q r s...\""))
    }

    @Test("a pipeline's prompts are counted by its tokenizers, without weights")
    func pipeline() throws {
        try withTemporaryFolder { folder in
            let source = Repository.models + "/emoji-sd3-tiny"
            for name in ["model_index.json", "tokenizer", "tokenizer_2"] {
                try FileManager.default.createSymbolicLink(
                    atPath: folder + "/" + name, withDestinationPath: source + "/" + name)
            }
            let readers = try PromptReader.all(pipeline: folder)
            #expect(readers.map(\.name) == ["CLIP"] && readers[0].limit == 16)
            let tokenizer = try CLIPTokenizer(folder: source + "/tokenizer")
            // 14 words of one token each, between start and end.
            let text = String(repeating: "red ", count: 14)
            #expect(tokenizer.tokens(text).count == 16)
            #expect(PromptCuts([text], readers: readers) == nil)
            #expect(PromptCuts([text + "red"], readers: readers)?.cuts.first?.longest == 17)
        }
    }
}
