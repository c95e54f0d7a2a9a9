import Raster
import Testing

@Suite("ContactSheet")
struct ContactSheetTests {
    private func image(_ level: UInt8, width: Int = 2, height: Int = 2) -> RGBImage {
        RGBImage(width: width, height: height, color: RGBColor(red: level, green: level, blue: level))
    }

    /// The sheet's red levels, row by row.
    private func levels(_ sheet: ContactSheet) -> [[UInt8]] {
        (0..<sheet.image.height).map { y in (0..<sheet.image.width).map { sheet.image[$0, y].red } }
    }

    @Test("images fill the grid row by row, with gutters around every cell")
    func grid() {
        let sheet = ContactSheet(images: [image(1), image(2, width: 1), image(3, height: 1)], columns: 2, gutter: 1)
        #expect(
            levels(sheet) == [
                [255, 255, 255, 255, 255, 255, 255],
                [255, 1, 1, 255, 2, 255, 255],
                [255, 1, 1, 255, 2, 255, 255],
                [255, 255, 255, 255, 255, 255, 255],
                [255, 3, 3, 255, 255, 255, 255],
                [255, 255, 255, 255, 255, 255, 255],
                [255, 255, 255, 255, 255, 255, 255],
            ])
    }

    @Test("fewer images than columns make a narrower sheet; pixels are repeated, gutters are not")
    func scale() {
        let sheet = ContactSheet(images: [image(1, width: 1, height: 1)], columns: 8, scale: 3, gutter: 2)
        #expect(sheet.image.width == 7 && sheet.image.height == 7)
        #expect(levels(sheet)[2] == [255, 255, 1, 1, 1, 255, 255])
    }

    @Test("before and after stand side by side")
    func pairs() {
        let sheet = ContactSheet(
            before: [image(1, width: 1), image(2, width: 1)], after: [image(8, width: 1), image(9, width: 1)], pairs: 2,
            gutter: 1, background: .black)
        #expect(levels(sheet)[1] == [0, 1, 8, 0, 2, 9, 0])
    }
}
