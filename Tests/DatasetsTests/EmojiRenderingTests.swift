import Foundation
import Raster
import Testing

@testable import Datasets

@Suite("Emoji captions and rendering")
struct EmojiRenderingTests {
    @Test(
        "captions are lower-case names; parts of sequences, low and newer code points are left out",
        arguments: [
            ("\u{1F600}", "grinning face"), ("\u{2764}", "heavy black heart"), ("\u{1F9CC}", "troll"),
            ("#", nil), ("\u{1F1E6}", nil), ("\u{1F3FB}", nil), ("\u{FE0F}", nil), ("\u{E0062}", nil),
            // Unicode 15 and 16.
            ("\u{1FAE8}", nil), ("\u{1FAE9}", nil), ("\u{2FFFF}", nil),
        ] as [(Unicode.Scalar, String?)])
    func captions(scalar: Unicode.Scalar, caption: String?) {
        #expect(EmojiCaption.caption(of: scalar) == caption)
    }

    @Test("SplitMix64 gives the published sequence")
    func splitMix() {
        // Of the key 1234567, from Vigna's splitmix64.c.
        var random = SplitMix64(key: 1_234_567)
        let numbers = (0..<3).map { _ in random.next() }
        #expect(numbers == [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423])
    }

    @Test("uniform numbers fill their range")
    func ranges() {
        var random = SplitMix64(key: 5)
        let reals = (0..<1000).map { _ in random.uniform(in: -8...8) }
        #expect(reals.allSatisfy { (-8...8).contains($0) })
        #expect(reals.min()! < -7.9 && reals.max()! > 7.9)
        #expect(Set((0..<200).map { _ in random.integer(through: 3) }) == [0, 1, 2, 3])
        #expect(random.integer(through: 0) == 0)
    }

    @Test("references differ from each other, not from run to run, and stay close to the plain image")
    func references() throws {
        let font = try EmojiFont(path: Fixtures.folder + "/six.ttf")
        func rendering() throws -> EmojiRendering {
            EmojiRendering(try font.picture(of: "\u{1F600}"), scalar: "\u{1F600}", size: 64)
        }
        let images = try (0..<4).map { try rendering().reference($0) }
        #expect(Set(images).count == 4)
        #expect(try (0..<4).map { try rendering().reference($0) } == images)
        let plain = try rendering().plain()
        for image in images {
            #expect(image.width == 64 && image.height == 64)
            let distance = zip(image.pixels, plain.pixels).reduce(0) { $0 + abs(Int($1.0) - Int($1.1)) }
            #expect((2...60).contains(distance / image.pixels.count))
        }
    }
}
