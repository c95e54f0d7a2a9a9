/// A grid of images, filled row by row, for reports and for looking at what a run makes.
///
/// Cells are as large as the largest image; smaller ones stand in the top left corner of theirs.
public struct ContactSheet: Sendable, Hashable {
    /// The finished picture.
    public let image: RGBImage

    /// Arranges images.
    ///
    /// - Parameters:
    ///   - images: at least one.
    ///   - columns: cells a row; with fewer images than that the sheet is narrower.
    ///   - scale: every pixel becomes scale x scale pixels, without smoothing.
    ///   - gutter: pixels between cells and around them.
    ///   - background: what shows between the images.
    /// - Precondition: there are images; `columns` and `scale` are positive, `gutter` is not negative.
    public init(
        images: [RGBImage], columns: Int, scale: Int = 1, gutter: Int = 4, background: RGBColor = .white
    ) {
        precondition(!images.isEmpty && columns > 0 && gutter >= 0, "ContactSheet: nothing to arrange")
        let enlarged = images.map { $0.enlarged(by: scale) }
        let usedColumns = min(columns, images.count)
        let rows = (images.count + columns - 1) / columns
        let cellWidth = enlarged.reduce(0) { max($0, $1.width) } + gutter
        let cellHeight = enlarged.reduce(0) { max($0, $1.height) } + gutter
        var sheet = RGBImage(
            width: usedColumns * cellWidth + gutter, height: rows * cellHeight + gutter, color: background)
        for (index, image) in enlarged.enumerated() {
            sheet.paste(
                image, x: gutter + index % columns * cellWidth, y: gutter + index / columns * cellHeight)
        }
        image = sheet
    }

    /// Puts each image of `before` to the left of its counterpart in `after`: pairs touch, the gutter is between pairs.
    ///
    /// - Parameters:
    ///   - before: on the left.
    ///   - after: on the right.
    ///   - pairs: pairs a row.
    ///   - scale: how often every pixel is repeated in either direction.
    ///   - gutter: pixels between pairs.
    ///   - background: of the gutters.
    /// - Precondition: as many images before as after, and at least one.
    public init(
        before: [RGBImage], after: [RGBImage], pairs: Int, scale: Int = 1, gutter: Int = 4,
        background: RGBColor = .white
    ) {
        precondition(before.count == after.count, "ContactSheet: \(before.count) before, \(after.count) after")
        let sides = zip(before, after).map {
            ContactSheet(images: [$0, $1], columns: 2, gutter: 0, background: background).image
        }
        self.init(images: sides, columns: pairs, scale: scale, gutter: gutter, background: background)
    }
}
