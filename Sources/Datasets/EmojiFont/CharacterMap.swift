/// A font's `cmap`: which glyph shows which code point. Formats 4 (basic plane) and 12 (all of Unicode) are read.
///
/// - Source: OpenType 1.9, "cmap". The subtable is chosen as fontTools' `getBestCmap` does.
struct CharacterMap {
    /// Glyph of each code point; glyph 0, "missing", is left out.
    let glyphs: [Int: Int]

    init(_ font: FontBytes) throws(DatasetError) {
        let table = try font.table("cmap")
        var offsets: [[Int]: Int] = [:]
        for index in 0..<(try font.u16(table, 2)) {
            let record = 4 + index * 8
            let encoding = [try font.u16(table, record), try font.u16(table, record + 2)]
            let offset = try font.u32(table, record + 4)
            if offsets[encoding] == nil { offsets[encoding] = offset }
        }
        let preference = [[3, 10], [3, 1], [0, 6], [0, 4], [0, 3], [0, 2], [0, 1], [0, 0]]
        guard let best = preference.first(where: { offsets[$0] != nil }), let offset = offsets[best] else {
            throw font.malformed("cmap: no Unicode subtable")
        }
        let subtable = try font.subtable(table, from: offset)
        switch try font.u16(subtable, 0) {
        case 4: glyphs = try Self.segments(font, subtable)
        case 12: glyphs = try Self.groups(font, subtable)
        case let format: throw font.malformed("cmap: subtable format \(format); 4 or 12 is expected")
        }
    }

    /// Format 12: runs of code points with consecutive glyphs.
    private static func groups(_ font: FontBytes, _ table: FontBytes.Table) throws(DatasetError) -> [Int: Int] {
        let count = try font.u32(table, 12)
        _ = try font.slice(table, 16, count: count * 12)
        var glyphs: [Int: Int] = [:]
        var next = 0
        for index in 0..<count {
            let first = try font.u32(table, 16 + index * 12)
            let last = try font.u32(table, 20 + index * 12)
            let glyph = try font.u32(table, 24 + index * 12)
            // Ascending groups bound the work by the number of code points.
            guard first >= next, first <= last, last <= 0x10FFFF, glyph + (last - first) <= 0xFFFF else {
                throw font.malformed(
                    "cmap: group \(index) (\(first)...\(last), glyph \(glyph)) is out of order or range")
            }
            for point in first...last where glyph + point - first > 0 { glyphs[point] = glyph + point - first }
            next = last + 1
        }
        return glyphs
    }

    /// Format 4: segments of the basic plane, with a glyph offset or an index into an array of glyphs.
    private static func segments(_ font: FontBytes, _ table: FontBytes.Table) throws(DatasetError) -> [Int: Int] {
        let count = try font.u16(table, 6) / 2
        let firsts = 16 + count * 2
        let deltas = firsts + count * 2
        let rangeOffsets = deltas + count * 2
        var glyphs: [Int: Int] = [:]
        var next = 0
        for index in 0..<count {
            let last = try font.u16(table, 14 + index * 2)
            let first = try font.u16(table, firsts + index * 2)
            let delta = try font.u16(table, deltas + index * 2)
            let rangeOffset = try font.u16(table, rangeOffsets + index * 2)
            guard first >= next, first <= last else {
                throw font.malformed("cmap: segment \(index) (\(first)...\(last)) is out of order")
            }
            // The last segment is 0xFFFF alone: it ends the search and maps nothing.
            for point in first...last where point != 0xFFFF {
                var glyph = point
                if rangeOffset != 0 {
                    glyph = try font.u16(table, rangeOffsets + index * 2 + rangeOffset + (point - first) * 2)
                    if glyph == 0 { continue }
                }
                glyph = (glyph + delta) & 0xFFFF
                if glyph != 0 { glyphs[point] = glyph }
            }
            next = last + 1
        }
        return glyphs
    }
}
