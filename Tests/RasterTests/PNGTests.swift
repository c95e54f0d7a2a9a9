import Foundation
import Raster
import Testing

@Suite("PNG")
struct PNGTests {
    /// A folder of its own, removed afterwards.
    private func withFolder(_ body: (String) throws -> Void) throws {
        let folder = NSTemporaryDirectory() + "/png-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try body(folder)
    }

    @Test("a written image reads back, in a file and in memory")
    func roundTrip() throws {
        let image = try PillowFixtures.image("source")
        #expect(try RGBImage(encoded: image.pngBytes()) == image)
        try withFolder { folder in
            try image.writePNG(to: folder + "/a.png")
            try RGBImage(width: 1, height: 1, color: .black).writePNG(to: folder + "/b.png")
            try image.writePNG(to: folder + "/b.png")
            #expect(try RGBImage(path: folder + "/b.png") == image)
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder).sorted() == ["a.png", "b.png"])
        }
    }

    @Test("noise, which does not compress, fits the buffer", arguments: [1, 2, 63, 200])
    func noise(side: Int) throws {
        var generator = SystemRandomNumberGenerator()
        let bytes = (0..<side * side * 3).map { _ in UInt8.random(in: 0...255, using: &generator) }
        let image = RGBImage(width: side, height: side, pixels: bytes)
        #expect(try RGBImage(encoded: image.pngBytes()) == image)
    }

    @Test("transparency is composited as Pillow does")
    func alpha() throws {
        #expect(try Difference(PillowFixtures.image("alpha"), PillowFixtures.image("alpha-on-white")) == .none)
        let sand = try RGBImage(
            path: PillowFixtures.path("alpha"), background: RGBColor(red: 200, green: 31, blue: 7))
        #expect(try Difference(sand, PillowFixtures.image("alpha-on-sand")) == .none)
        #expect(try Difference(PillowFixtures.image("palette"), PillowFixtures.image("palette-on-white")) == .none)
    }

    @Test("gray images become RGB")
    func gray() throws {
        #expect(try Difference(PillowFixtures.image("gray"), PillowFixtures.image("gray-as-rgb")) == .none)
    }

    @Test("every truncation is an error, never a crash or half an image")
    func truncations() throws {
        let bytes = try RGBImage(width: 9, height: 5, color: RGBColor(red: 1, green: 2, blue: 3)).pngBytes()
        // The last 12 bytes are IEND, which carries nothing.
        for count in 0..<bytes.count - 12 {
            #expect(throws: RasterError.self) { try RGBImage(encoded: Array(bytes.prefix(count))) }
        }
    }

    @Test("every flipped byte gives an error or an image of the same size")
    func flips() throws {
        let bytes = try PillowFixtures.image("palette").pngBytes()
        for index in bytes.indices {
            var damaged = bytes
            damaged[index] ^= 0x55
            if let image = try? RGBImage(encoded: damaged) { #expect(image.width == 32 && image.height == 24) }
        }
    }

    @Test("an image that claims too many pixels is refused before memory is taken")
    func bounds() throws {
        var bytes = try RGBImage(width: 1, height: 1, color: .black).pngBytes()
        bytes.replaceSubrange(16..<24, with: [0, 0, 0x40, 0, 0, 0, 0x40, 0])
        bytes.replaceSubrange(29..<33, with: checksum(bytes[12..<29]))
        let error = #expect(throws: RasterError.self) { try RGBImage(encoded: bytes) }
        #expect(error?.code == .tooLarge)
    }

    @Test("errors name the file and a remedy")
    func errors() throws {
        let missing = #expect(throws: RasterError.self) { try RGBImage(path: "/nowhere/a.png") }
        #expect(missing?.code == .unreadable)
        #expect(
            missing?.description
                == "/nowhere/a.png: cannot be read (No such file or directory); check the path and its permissions")
        let folder = #expect(throws: RasterError.self) { try RGBImage(path: "/") }
        #expect(folder?.code == .unreadable)
        let text = #expect(throws: RasterError.self) { try RGBImage(path: #filePath) }
        #expect(text?.code == .unsupported && text?.path == #filePath)
        let unwritable = #expect(throws: RasterError.self) {
            try RGBImage(width: 1, height: 1, color: .white).writePNG(to: "/nowhere/a.png")
        }
        #expect(unwritable?.code == .unwritable)
    }

    /// CRC-32 of the PNG specification, big-endian.
    private func checksum(_ bytes: ArraySlice<UInt8>) -> [UInt8] {
        var crc: UInt32 = .max
        for byte in bytes {
            crc ^= UInt32(byte)
            for _ in 0..<8 { crc = crc & 1 == 1 ? 0xEDB8_8320 ^ (crc >> 1) : crc >> 1 }
        }
        return [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: ~crc >> UInt32($0)) }
    }
}
