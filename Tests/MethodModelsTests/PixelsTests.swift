import Raster
import TensorCore
import TestSupport
import Testing

@testable import MethodModels

/// The one place where pixels get 8 bits.
@Suite struct PixelsTests {
    @Test("levels by hand: nearest or below, clamped, and 0 for what is no number")
    func levels() {
        for engine in testEngines {
            // 255 · 0.5 = 127.5; 100.4 and 100.6 lie about 100.5; -3 and 7 outside.
            let pixels = engine.tensor(
                [0, 1, 0.5, 100.4 / 255, 100.6 / 255, 254.9 / 255, -3, 7, -0.0, .infinity, -.infinity, .nan],
                shape: [12])
            #expect(pixels.levels() == [0, 255, 128, 100, 101, 255, 0, 255, 0, 255, 0, 0])
            #expect(pixels.levels(.down) == [0, 255, 127, 100, 100, 254, 0, 255, 0, 255, 0, 0])
        }
    }

    @Test("levels are those that diffusers' image processor makes of the same pixels", arguments: ["vae-a", "vae-b"])
    func reference(name: String) throws {
        let golden = try Golden(name + "/golden.safetensors")
        let pixels = try golden.tensor("image/pixels", on: OpenBLASEngine.shared)
        #expect(try pixels.levels().map(Int.init) == golden.integers("image/bytes"))
    }

    @Test("every level is the pixel level / 255, and comes back")
    func roundTrip() {
        let engine = OpenBLASEngine.shared
        let all = (0...255).map { UInt8($0) } + [UInt8](repeating: 7, count: 128)
        let pixels = all.withUnsafeBytes { engine.pixels(levels: $0, shape: [1, 8, 16, 3]) }
        #expect(pixels.dtype == .float32 && pixels.shape == [1, 8, 16, 3])
        #expect(pixels.values == all.map { Float(Double($0) / 255) })
        #expect(pixels.levels() == all && pixels.levels(.down) == all)
    }

    @Test("a batch becomes its images, and these the batch")
    func images() {
        let engine = OpenBLASEngine.shared
        let levels = (0..<2 * 2 * 3 * 3).map { UInt8($0 * 7) }
        let batch = levels.withUnsafeBytes { engine.pixels(levels: $0, shape: [2, 2, 3, 3]) }
        let images = RGBImage.images(of: batch)
        #expect(images.map(\.pixels) == [Array(levels[..<18]), Array(levels[18...])])
        #expect(images.allSatisfy { $0.width == 3 && $0.height == 2 })
        let again = RGBImage.tensor(of: images, on: engine)
        #expect(again.shape == batch.shape && again.values == batch.values)
    }
}
