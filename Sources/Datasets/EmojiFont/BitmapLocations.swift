/// A font's `CBLC`: where in `CBDT` the bitmap of each glyph lies. Index formats 1 to 5; the first strike (size) is used.
///
/// - Source: OpenType 1.9, "CBLC" and "EBLC".
struct BitmapLocations {
    /// One glyph's record in `CBDT`.
    struct Location {
        var imageFormat: Int
        /// From the start of `CBDT`.
        var offset: Int
        var byteCount: Int
    }

    let locations: [Int: Location]

    init(_ font: FontBytes) throws(DatasetError) {
        let table = try font.table("CBLC")
        guard try font.u32(table, 4) > 0 else { throw font.malformed("CBLC: no bitmap sizes") }
        let array = try font.subtable(table, from: try font.u32(table, 8))
        let count = try font.u32(table, 16)
        _ = try font.slice(array, 0, count: count * 8)
        var locations: [Int: Location] = [:]
        var next = 0
        for index in 0..<count {
            let first = try font.u16(array, index * 8)
            let last = try font.u16(array, index * 8 + 2)
            // Ascending ranges bound the work by the number of glyphs.
            guard first >= next, first <= last else {
                throw font.malformed("CBLC: glyphs \(first)...\(last) are out of order")
            }
            let subtable = try font.subtable(array, from: try font.u32(array, index * 8 + 4))
            try Self.read(font, subtable, glyphs: first...last) { locations[$0] = $1 }
            next = last + 1
        }
        self.locations = locations
    }

    private static func read(
        _ font: FontBytes, _ table: FontBytes.Table, glyphs: ClosedRange<Int>, store: (Int, Location) -> Void
    ) throws(DatasetError) {
        let indexFormat = try font.u16(table, 0)
        let imageFormat = try font.u16(table, 2)
        let base = try font.u32(table, 4)
        func add(_ glyph: Int, from start: Int, to end: Int) throws(DatasetError) {
            guard start <= end else { throw font.malformed("CBLC: glyph \(glyph): its bitmap ends before it starts") }
            // An empty record means a glyph without a bitmap.
            guard start < end else { return }
            store(glyph, Location(imageFormat: imageFormat, offset: base + start, byteCount: end - start))
        }
        switch indexFormat {
        case 1:
            for (index, glyph) in glyphs.enumerated() {
                try add(
                    glyph, from: try font.u32(table, 8 + index * 4), to: try font.u32(table, 12 + index * 4))
            }
        case 2:
            let byteCount = try font.u32(table, 8)
            for (index, glyph) in glyphs.enumerated() {
                try add(glyph, from: index * byteCount, to: (index + 1) * byteCount)
            }
        case 3:
            for (index, glyph) in glyphs.enumerated() {
                try add(
                    glyph, from: try font.u16(table, 8 + index * 2), to: try font.u16(table, 10 + index * 2))
            }
        case 4:
            let count = try sparseCount(font, try font.u32(table, 8), glyphs)
            for index in 0..<count {
                try add(
                    try font.u16(table, 12 + index * 4), from: try font.u16(table, 14 + index * 4),
                    to: try font.u16(table, 18 + index * 4))
            }
        case 5:
            let byteCount = try font.u32(table, 8)
            let count = try sparseCount(font, try font.u32(table, 20), glyphs)
            for index in 0..<count {
                try add(
                    try font.u16(table, 24 + index * 2), from: index * byteCount, to: (index + 1) * byteCount)
            }
        default: throw font.malformed("CBLC: index format \(indexFormat); 1 to 5 are expected")
        }
    }

    private static func sparseCount(
        _ font: FontBytes, _ count: Int, _ glyphs: ClosedRange<Int>
    ) throws(DatasetError) -> Int {
        guard count <= glyphs.count else {
            throw font.malformed("CBLC: \(count) glyphs listed in the range \(glyphs)")
        }
        return count
    }
}
