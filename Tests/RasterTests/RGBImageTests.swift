import Raster
import Testing

@Suite("RGBImage")
struct RGBImageTests {
    private let red = RGBColor(red: 255, green: 0, blue: 0)

    @Test("pixels are row-major RGB")
    func layout() {
        let image = RGBImage(width: 2, height: 2, pixels: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
        #expect(image[1, 0] == RGBColor(red: 4, green: 5, blue: 6))
        #expect(image[0, 1] == RGBColor(red: 7, green: 8, blue: 9))
    }

    @Test("pasting replaces exactly the covered pixels")
    func paste() {
        var image = RGBImage(width: 4, height: 3, color: .white)
        image.paste(RGBImage(width: 2, height: 1, color: red), x: 2, y: 1)
        for y in 0..<3 {
            for x in 0..<4 { #expect(image[x, y] == (y == 1 && x >= 2 ? red : .white)) }
        }
    }

    @Test("enlarging repeats pixels")
    func enlarge() {
        let image = RGBImage(width: 2, height: 2, pixels: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]).enlarged(by: 3)
        #expect(image.width == 6 && image.height == 6)
        for y in 0..<6 {
            for x in 0..<6 { #expect(Int(image[x, y].red) == 1 + 3 * (x / 3 + 2 * (y / 3))) }
        }
    }

    @Test("a wrong byte count, an empty image and a paste outside stop the program")
    func preconditions() async {
        await #expect(processExitsWith: .failure) { _ = RGBImage(width: 2, height: 2, pixels: [0]) }
        await #expect(processExitsWith: .failure) { _ = RGBImage(width: 0, height: 2, pixels: []) }
        await #expect(processExitsWith: .failure) {
            var image = RGBImage(width: 2, height: 2, color: .white)
            image.paste(image, x: 1, y: 0)
        }
    }
}
