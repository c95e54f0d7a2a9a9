/// The bytes of a font, read big-endian; every offset is checked against the enclosing range.
struct FontBytes {
    let bytes: [UInt8]
    let path: String

    /// A part of the file: reads through it are relative to its start and confined to it.
    struct Table {
        let name: String
        let range: Range<Int>
    }

    func u16(_ table: Table, _ offset: Int) throws(DatasetError) -> Int {
        let start = try position(table, offset, count: 2)
        return Int(bytes[start]) << 8 | Int(bytes[start + 1])
    }

    func u32(_ table: Table, _ offset: Int) throws(DatasetError) -> Int {
        let start = try position(table, offset, count: 4)
        return bytes[start..<start + 4].reduce(0) { $0 << 8 | Int($1) }
    }

    /// `count` bytes of a table, as a range of the file.
    func slice(_ table: Table, _ offset: Int, count: Int) throws(DatasetError) -> Range<Int> {
        let start = try position(table, offset, count: count)
        return start..<start + count
    }

    /// The rest of a table from an offset.
    func subtable(_ table: Table, from offset: Int) throws(DatasetError) -> Table {
        let start = try position(table, offset, count: 0)
        return Table(name: table.name, range: start..<table.range.upperBound)
    }

    /// The table of a four-letter name in the font's directory.
    func table(_ name: String) throws(DatasetError) -> Table {
        let file = Table(name: "table directory", range: 0..<bytes.count)
        switch try u32(file, 0) {
        case 0x0001_0000, 0x4F54_544F, 0x7472_7565: break
        case 0x7474_6366: throw malformed("a font collection; a single font is expected")
        default: throw malformed("not a TrueType or OpenType font")
        }
        for index in 0..<(try u16(file, 4)) {
            let record = 12 + index * 16
            let range = try slice(file, record, count: 4)
            guard bytes[range].elementsEqual(name.utf8) else { continue }
            let start = try u32(file, record + 8)
            let count = try u32(file, record + 12)
            return Table(name: name, range: try slice(file, start, count: count))
        }
        throw malformed("no \(name) table; a font with colour bitmaps (CBDT) is expected")
    }

    func malformed(_ message: String) -> DatasetError {
        DatasetError(
            code: .malformedFont, path: path, message: message,
            remedy: "reinstall the font (apt-get install --reinstall fonts-noto-color-emoji)")
    }

    /// Offsets and counts come from 32-bit fields, so their sums cannot overflow.
    private func position(_ table: Table, _ offset: Int, count: Int) throws(DatasetError) -> Int {
        guard offset >= 0, count >= 0, offset + count <= table.range.count else {
            throw malformed(
                "\(table.name): \(count) bytes at offset \(offset) lie outside its \(table.range.count) bytes")
        }
        return table.range.lowerBound + offset
    }
}
