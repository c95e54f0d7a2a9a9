import Raster

/// Images that Pillow made; `make_fixtures.py` in the folder writes them.
enum PillowFixtures {
    static func path(_ name: String) -> String {
        let file = #filePath.split(separator: "/").dropLast(2).joined(separator: "/")
        return "/\(file)/Fixtures/Raster/\(name).png"
    }

    static func image(_ name: String) throws -> RGBImage {
        try RGBImage(path: path(name))
    }
}

/// How two images differ; short enough to print.
struct Difference: Equatable {
    /// Components with unequal values; -1 when the sizes differ.
    var count: Int
    /// The largest difference of a component.
    var largest: Int

    static let none = Difference(count: 0, largest: 0)

    init(count: Int, largest: Int) {
        self.count = count
        self.largest = largest
    }

    init(_ first: RGBImage, _ second: RGBImage) {
        let sameSize = first.width == second.width && first.height == second.height
        let distances = zip(first.pixels, second.pixels).map { abs(Int($0) - Int($1)) }
        self.init(count: sameSize ? distances.count { $0 > 0 } : -1, largest: distances.max() ?? 0)
    }
}
