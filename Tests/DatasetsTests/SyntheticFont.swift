/// A font of a few glyphs, built from the OpenType specification's tables: every index and image format in turn.
struct SyntheticFont {
    var characterFormat = 12
    var indexFormat = 1
    var imageFormat = 17
    /// Code points and the bytes of their "PNG"; glyphs are 1, 2, ... in this order. All of one length.
    var images: [(point: Int, bytes: [UInt8])] = []

    func bytes() -> [UInt8] {
        let (locations, data) = bitmapTables()
        let tables = [("CBDT", data), ("CBLC", locations), ("cmap", characterMap())]
        var directory = u32(0x0001_0000) + u16(tables.count) + u16(0) + u16(0) + u16(0)
        var body: [UInt8] = []
        for (name, table) in tables {
            directory += Array(name.utf8) + u32(0) + u32(12 + tables.count * 16 + body.count) + u32(table.count)
            body += table
        }
        return directory + body
    }

    /// cmap: one subtable.
    private func characterMap() -> [UInt8] {
        let header = u16(0) + u16(1) + u16(3) + u16(characterFormat == 12 ? 10 : 1) + u32(12)
        if characterFormat == 12 {
            let groups = images.enumerated().flatMap { u32($1.point) + u32($1.point) + u32($0 + 1) }
            return header + u16(12) + u16(0) + u32(16 + groups.count) + u32(0) + u32(images.count) + groups
        }
        // One segment a code point: by delta for even glyphs, through the glyph array for odd ones; then the end mark.
        let count = images.count + 1
        let ends = images.flatMap { u16($0.point) } + u16(0xFFFF)
        var deltas: [UInt8] = []
        var offsets: [UInt8] = []
        var glyphs: [UInt8] = []
        for (index, image) in images.enumerated() {
            let glyph = index + 1
            if glyph.isMultiple(of: 2) {
                deltas += u16((glyph - image.point) & 0xFFFF)
                offsets += u16(0)
            } else {
                deltas += u16(0)
                offsets += u16((count - index) * 2 + glyphs.count)
                glyphs += u16(glyph)
            }
        }
        let segments = ends + u16(0) + ends + deltas + u16(1) + offsets + u16(0) + glyphs
        return header + u16(4) + u16(14 + segments.count) + u16(0) + u16(count * 2) + u16(0) + u16(0) + u16(0)
            + segments
    }

    /// CBLC with one strike and one subtable, and CBDT.
    private func bitmapTables() -> (locations: [UInt8], data: [UInt8]) {
        var data = u32(0x0003_0000)
        var offsets: [Int] = []
        for image in images {
            offsets.append(data.count - 4)
            let metrics = [17: 5, 18: 8, 19: 0][imageFormat] ?? 0
            data += [UInt8](repeating: 9, count: metrics) + u32(image.bytes.count) + image.bytes
        }
        offsets.append(data.count - 4)
        let bigMetrics = [UInt8](repeating: 7, count: 8)
        let glyphs = 1...images.count
        var subtable = u16(indexFormat) + u16(imageFormat) + u32(4)
        switch indexFormat {
        case 1: subtable += offsets.flatMap { u32($0) }
        case 2: subtable += u32(offsets[1]) + bigMetrics
        case 3: subtable += offsets.flatMap { u16($0) }
        case 4:
            subtable += u32(images.count)
            subtable += glyphs.flatMap { u16($0) + u16(offsets[$0 - 1]) } + u16(0) + u16(offsets[images.count])
        default: subtable += u32(offsets[1]) + bigMetrics + u32(images.count) + glyphs.flatMap { u16($0) }
        }
        let array = u16(1) + u16(images.count) + u32(8) + subtable
        let size =
            u32(56) + u32(array.count) + u32(1) + u32(0) + [UInt8](repeating: 0, count: 24) + u16(1)
            + u16(images.count) + [109, 109, 32, 1]
        return (u32(0x0003_0000) + u32(1) + size + array, data)
    }

    private func u16(_ value: Int) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 255)] }
    private func u32(_ value: Int) -> [UInt8] { u16(value >> 16) + u16(value & 0xFFFF) }
}
