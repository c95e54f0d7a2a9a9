import Foundation
import Raster
import Testing

/// JPEG, WebP and turned PNG files against Pillow, which wrote and read them (`tools/goldens/make_images.py`).
@Suite struct ImageFormatTests {
    private static let folder = PillowFixtures.path("x").replacingOccurrences(of: "Raster/x.png", with: "images/")

    private func bytes(_ name: String) throws -> [UInt8] {
        Array(try Data(contentsOf: URL(fileURLWithPath: Self.folder + name)))
    }

    @Test("every file has Pillow's pixels")
    func pixels() throws {
        let sizes = try JSONDecoder().decode([String: [Int]].self, from: Data(bytes("sizes.json")))
        #expect(sizes.count == 27)
        for (name, size) in sizes {
            let expected = RGBImage(width: size[0], height: size[1], pixels: try bytes(name + ".rgb"))
            #expect(try Difference(RGBImage(path: Self.folder + name), expected) == .none, "\(name)")
        }
    }

    @Test("cut files, animations and other formats are refused by name")
    func refusals() throws {
        for name in ["full.jpg", "progressive.jpg", "lossy.webp", "lossless.webp"] {
            let bytes = try bytes(name)
            for count in stride(from: 16, to: bytes.count - 2, by: 7) {
                #expect(throws: RasterError.self, "\(name) \(count)") {
                    try RGBImage(encoded: Array(bytes.prefix(count)))
                }
            }
        }
        for (bytes, words) in [
            (try bytes("moving.webp"), "an animated WebP"), (Array("GIF89a".utf8), "a GIF"),
            (Array("<!DOCTYPE html>".utf8), "a web page"), (Array("\0\0\0\u{18}ftypavif".utf8), "an AVIF"),
        ] {
            let error = #expect(throws: RasterError.self) { try RGBImage(encoded: bytes) }
            #expect(error?.code == .unsupported && error?.message.contains(words) == true)
        }
    }
}
