import Raster
import Testing

@Suite("Resizing and rotation against Pillow")
struct ResizeTests {
    @Test(
        "resizing equals Pillow bit for bit", arguments: ResamplingFilter.allCases,
        [(16, 12), (64, 64), (37, 11), (5, 29), (50, 20), (36, 21)])
    func resize(filter: ResamplingFilter, size: (width: Int, height: Int)) throws {
        let expected = try PillowFixtures.image("\(filter)-\(size.width)x\(size.height)")
        let source = try PillowFixtures.image("source")
        let resized = source.resized(width: size.width, height: size.height, filter: filter)
        #expect(Difference(resized, expected) == .none)
    }

    @Test("the same size is the same image", arguments: ResamplingFilter.allCases)
    func sameSize(filter: ResamplingFilter) throws {
        let source = try PillowFixtures.image("source")
        #expect(source.resized(width: source.width, height: source.height, filter: filter) == source)
    }

    @Test("one colour stays one colour", arguments: ResamplingFilter.allCases)
    func flat(filter: ResamplingFilter) {
        let color = RGBColor(red: 255, green: 17, blue: 0)
        let image = RGBImage(width: 13, height: 7, color: color)
        for (width, height) in [(1, 1), (64, 3), (5, 40)] {
            #expect(
                image.resized(width: width, height: height, filter: filter)
                    == RGBImage(width: width, height: height, color: color))
        }
    }

    @Test("rotation equals Pillow within one level", arguments: [7.3, -4.25, 133.0])
    func rotate(degrees: Double) throws {
        let expected = try PillowFixtures.image("rotated\(degrees)")
        let turned = try PillowFixtures.image("source").rotated(
            degrees: degrees, fill: RGBColor(red: 255, green: 250, blue: 10))
        let difference = Difference(turned, expected)
        #expect(difference.count >= 0 && difference.largest <= 1)
        #expect(difference.count * 1000 <= expected.pixels.count, "\(difference)")
    }

    @Test("no turn changes nothing")
    func noTurn() throws {
        let source = try PillowFixtures.image("source")
        #expect(source.rotated(degrees: 0, fill: .black) == source)
        #expect(source.rotated(degrees: 360, fill: .black) == source)
    }
}
