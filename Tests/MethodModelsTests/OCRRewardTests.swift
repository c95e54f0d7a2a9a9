import AdvGRPO
import Foundation
import NeuralNetworks
import Raster
import TensorCore
import TestSupport
import Testing

@testable import MethodModels

/// Text in images, against Python's Levenshtein package and pictures that Pillow drew.
@Suite("OCR")
struct OCRRewardTests {
    private struct Case: Decodable {
        var prompt: String
        var read: String
        var score: Float
    }

    private static let folder = Repository.fixtures + "/ocr"

    @Test("what was read is scored as the released code scores it")
    func scores() throws {
        let cases = try JSONDecoder().decode(
            [Case].self, from: Data(contentsOf: URL(fileURLWithPath: Self.folder + "/scores.json")))
        #expect(cases.count == 9)
        for item in cases {
            #expect(abs(try WantedText(of: item.prompt).score(of: item.read) - item.score) < 1e-6, "\(item.read)")
        }
        // Lines and tabs are spaces, too.
        #expect(try WantedText(of: "\"two lines\"").score(of: "TWO\nlines\u{c}") == 1)
    }

    @Test("a prompt that asks for no text is refused by name", arguments: ["a cat", "\"\"", "an empty \"  \" sign"])
    func refusals(prompt: String) throws {
        let ocr = try #require(RewardComponent(rawValue: "ocr"))
        let error = #expect(throws: ModelError.self) { try FrozenReward.check(["a \"b\"", prompt], for: ocr) }
        #expect(error?.description.contains("'\(prompt)'") ?? false)
        try FrozenReward.check([prompt], for: try #require(RewardComponent(rawValue: "jpeg_compressibility")))
    }

    /// Debian's libtesseract5 and tesseract-ocr-eng, which continuous integration installs.
    private static let isInstalled = (try? Tesseract(language: "eng")) != nil

    @Test(
        "drawn text is read, by several lanes as by one",
        .enabled(if: isInstalled, "needs libtesseract5 and tesseract-ocr-eng"))
    func reading() throws {
        let images = try ["shop", "sign", "blank"].map { try RGBImage(path: "\(Self.folder)/\($0).png") }
        let reward = try frozenReward("ocr")
        let prompts = ["a shop with \"Open 24 hours\"", "\"Welcome\" over a door", "a card with \"nothing\""]
        let scores = try reward.scores(of: images, prompts: prompts, lanes: Lanes(count: 2))
        #expect(scores == [1, 1, 0])
        let others = try reward.scores(
            of: images, prompts: ["a shop with \"Open 25 hours\"", "\"home\"", "\"x\""], lanes: Lanes(count: 1))
        expectClose(others, [10 / 11, 1, 0], "one figure of eleven characters is another")
    }

    @Test("a language without data is refused, with its package", .enabled(if: isInstalled, "needs libtesseract5"))
    func language() {
        let error = #expect(throws: ModelError.self) { try Tesseract(language: "tlh") }
        #expect(error?.description.contains("tesseract-ocr-tlh") ?? false)
    }
}
