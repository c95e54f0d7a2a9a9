/// How a camera was held, as EXIF numbers it from 1: what is done to the stored pixels to show them upright.
///
/// - Source: EXIF 2.32, tag 0x0112; Pillow's `ImageOps.exif_transpose`.
struct Orientation: Equatable {
    /// Rows become columns. Done after the flips.
    var transposes: Bool
    var flipsColumns: Bool
    var flipsRows: Bool

    static let upright = Orientation(transposes: false, flipsColumns: false, flipsRows: false)

    init(transposes: Bool, flipsColumns: Bool, flipsRows: Bool) {
        self.transposes = transposes
        self.flipsColumns = flipsColumns
        self.flipsRows = flipsRows
    }

    /// Numbers outside 1...8 mean nothing.
    init(number: Int) {
        self = (1...8).contains(number) ? Self.numbered[number - 1] : .upright
    }

    private static let numbered: [Orientation] = [
        (false, false, false), (false, true, false), (false, true, true), (false, false, true),
        (true, false, false), (true, false, true), (true, true, true), (true, true, false),
    ].map { Orientation(transposes: $0.0, flipsColumns: $0.1, flipsRows: $0.2) }
}

/// Where files say how they are held: EXIF, and where that is silent an XMP packet.
struct OrientationMetadata {
    /// A TIFF directory, perhaps with EXIF's own header before it.
    var exif: ArraySlice<UInt8> = []
    /// XML.
    var xmp: ArraySlice<UInt8> = []

    /// Upright when nothing readable says otherwise: no picture is refused for what is said about it.
    var orientation: Orientation { Orientation(number: exifNumber ?? xmpNumber ?? 1) }

    /// The first directory's entry 0x0112, of any unsigned integer type.
    private var exifNumber: Int? {
        var tiff = exif
        while tiff.starts(with: exifHeader) { tiff = tiff.dropFirst(exifHeader.count) }
        let bigEndian = tiff.starts(with: [0x4D, 0x4D, 0x00, 0x2A])
        guard bigEndian || tiff.starts(with: [0x49, 0x49, 0x2A, 0x00]) else { return nil }
        func number(at offset: Int, _ byteCount: Int) -> Int? {
            guard offset + byteCount <= tiff.count else { return nil }
            let bytes = tiff[(tiff.startIndex + offset)...].prefix(byteCount)
            return bigEndian
                ? bytes.reduce(0) { $0 << 8 | Int($1) } : bytes.reversed().reduce(0) { $0 << 8 | Int($1) }
        }
        guard let directory = number(at: 4, 4), let count = number(at: directory, 2) else { return nil }
        for entry in (0..<count).map({ directory + 2 + $0 * 12 }) where number(at: entry, 2) == 0x0112 {
            let widths = [1: 1, 3: 2, 4: 4]
            guard let type = number(at: entry + 2, 2), let width = widths[type], number(at: entry + 4, 4) == 1
            else { return nil }
            return number(at: entry + 8, width)
        }
        return nil
    }

    /// The digit of `tiff:Orientation="6"` or `<tiff:Orientation>6`.
    private var xmpNumber: Int? {
        let name = Array("tiff:Orientation".utf8)
        for start in xmp.indices where xmp[start] == name[0] && xmp[start...].starts(with: name) {
            let rest = xmp[start...].dropFirst(name.count)
            for sign in ["=\"", ">"] where rest.starts(with: sign.utf8) {
                guard let digit = rest.dropFirst(sign.utf8.count).first, (0x30...0x39).contains(digit) else { break }
                return Int(digit) - 0x30
            }
        }
        return nil
    }
}

/// What stands before EXIF's TIFF in a JPEG, and in other files by mistake.
let exifHeader: [UInt8] = Array("Exif".utf8) + [0, 0]

extension RGBImage {
    /// The image as it is meant to be seen.
    func turned(_ orientation: Orientation) -> RGBImage {
        if orientation == .upright { return self }
        let (columns, rows) = orientation.transposes ? (height, width) : (width, height)
        let bytes = [UInt8](unsafeUninitializedCapacity: pixels.count) { buffer, count in
            pixels.withUnsafeBufferPointer { source in
                var target = 0
                for y in 0..<rows {
                    for x in 0..<columns {
                        let (u, v) = orientation.transposes ? (y, x) : (x, y)
                        let column = orientation.flipsColumns ? width - 1 - u : u
                        let row = orientation.flipsRows ? height - 1 - v : v
                        let start = (row * width + column) * 3
                        for channel in 0..<3 { buffer[target + channel] = source[start + channel] }
                        target += 3
                    }
                }
            }
            count = pixels.count
        }
        return RGBImage(width: columns, height: rows, pixels: bytes)
    }
}
