import Datasets
import Foundation
import Raster
import Testing

@Suite("EmojiFont")
struct EmojiFontTests {
    private let images: [(point: Int, bytes: [UInt8])] = [
        (0x2014, [1, 1, 1]), (0x2764, [2, 2, 2]), (0xF8FF, [3, 3, 3]),
    ]

    private func synthetic(index: Int, image: Int, characters: Int) -> [UInt8] {
        SyntheticFont(characterFormat: characters, indexFormat: index, imageFormat: image, images: images).bytes()
    }

    @Test(
        "every index and image format leads to the same images", arguments: [1, 2, 3, 4, 5],
        [(17, 12), (18, 4), (19, 12)])
    func formats(indexFormat: Int, formats: (image: Int, characters: Int)) throws {
        let bytes = synthetic(index: indexFormat, image: formats.image, characters: formats.characters)
        let font = try EmojiFont(bytes: bytes, path: "synthetic.ttf")
        #expect(font.scalars.map { Int($0.value) } == images.map(\.point))
        for (point, png) in images { #expect(font.png(for: Unicode.Scalar(UInt32(point))!) == png) }
        #expect(font.png(for: "a") == nil)
    }

    @Test("a real subset of Noto gives PNGs of 136 x 128")
    func subset() throws {
        let font = try EmojiFont(path: Fixtures.folder + "/six.ttf")
        #expect(
            font.scalars.map { Int($0.value) } == [
                0x23, 0x203C, 0x2764, 0x1F1E6, 0x1F3FB, 0x1F40D, 0x1F600, 0x1F680, 0x1F9CC, 0x1FAE8, 0x1FAF8,
            ])
        for scalar in font.scalars {
            let image = try RGBImage(encoded: try #require(font.png(for: scalar)))
            #expect(image.width == 136 && image.height == 128)
        }
    }

    @Test("a missing font names the path and the package")
    func missing() throws {
        let error = #expect(throws: DatasetError.self) { try EmojiFont(path: "/nowhere/Noto.ttf") }
        #expect(error?.code == .missingPictures)
        #expect(error?.description.hasPrefix("/nowhere/Noto.ttf: ") == true)
        #expect(error?.description.contains("apt-get install fonts-noto-color-emoji") == true)
    }

    @Test("other files are refused in words", arguments: ["noto.json", "six/images/1f600.png"])
    func otherFiles(name: String) throws {
        let error = #expect(throws: DatasetError.self) { try EmojiFont(path: Fixtures.folder + "/" + name) }
        #expect(error?.code == .malformedFont)
    }

    @Test("every truncation is an error", arguments: [1, 2, 3, 4, 5], [4, 12])
    func truncations(indexFormat: Int, characterFormat: Int) {
        let bytes = synthetic(index: indexFormat, image: 18, characters: characterFormat)
        // The cmap is last and its format 4 ends in a glyph array: every byte is needed.
        for count in bytes.indices {
            #expect(throws: DatasetError.self) { try EmojiFont(bytes: Array(bytes.prefix(count)), path: "cut.ttf") }
        }
    }

    @Test("every changed byte gives a font or an error, quickly", arguments: [1, 2, 3, 4, 5], [4, 12])
    func flips(indexFormat: Int, characterFormat: Int) {
        let bytes = synthetic(index: indexFormat, image: 17, characters: characterFormat)
        for index in bytes.indices {
            for value: UInt8 in [0, 1, 0x7F, 0x80, 0xFF] {
                var damaged = bytes
                damaged[index] = value
                do {
                    let font = try EmojiFont(bytes: damaged, path: "damaged.ttf")
                    for scalar in font.scalars { #expect(font.png(for: scalar) != nil) }
                } catch {
                    #expect(error.code == .malformedFont)
                }
            }
        }
    }
}
