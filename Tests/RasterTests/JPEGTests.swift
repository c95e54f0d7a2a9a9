import Foundation
import Raster
import Testing

/// JPEG encoding against Pillow, byte for byte: both are libjpeg-turbo with its defaults.
@Suite struct JPEGTests {
    @Test(
        "the bytes are Pillow's", arguments: [("source", 95), ("bicubic-64x64", 95), ("bicubic-64x64", 30)])
    func bytes(name: String, quality: Int) throws {
        let image = try PillowFixtures.image(name)
        let path = PillowFixtures.path("\(name)-\(quality)").dropLast(3) + "jpg"
        let expected = try Data(contentsOf: URL(fileURLWithPath: String(path)))
        let bytes = try image.jpegBytes(quality: quality)
        #expect(bytes.count == expected.count && bytes == Array(expected))
    }

    @Test("the largest quality of noise fits, and an image beyond JPEG's limits is refused in libjpeg's words")
    func limits() throws {
        var state: UInt64 = 1
        let pixels = (0..<33 * 17 * 3).map { _ -> UInt8 in
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return UInt8(truncatingIfNeeded: state >> 40)
        }
        let bytes = try RGBImage(width: 33, height: 17, pixels: pixels).jpegBytes(quality: 100)
        #expect(bytes.prefix(2) == [0xFF, 0xD8] && bytes.suffix(2) == [0xFF, 0xD9])
        let error = #expect(throws: RasterError.self) {
            try RGBImage(width: 65_501, height: 1, color: .black).jpegBytes(quality: 95)
        }
        #expect(error?.code == .unwritable)
        #expect(error?.message.contains("65500") == true, "\(error?.message ?? "")")
    }
}
