internal import Platform
internal import Raster

/// A colour bitmap font, such as Noto Color Emoji: the PNG of each code point.
///
/// Reads the tables cmap, CBLC and CBDT; every offset is checked, so that a damaged or hostile font gives an error and nothing else.
public struct EmojiFont: Sendable {
    /// Where Debian's and Ubuntu's fonts-noto-color-emoji put it.
    public static let defaultPath = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"

    /// The file it was read from.
    public let path: String
    /// Code points that have a bitmap, ascending.
    public let scalars: [Unicode.Scalar]
    let bytes: [UInt8]
    /// The PNG of each code point, as ranges of the file.
    private let images: [Unicode.Scalar: Range<Int>]

    /// Reads a font file.
    ///
    /// - Throws: `DatasetError`: `missingPictures` with the package to install, or `malformedFont`.
    public init(path: String = EmojiFont.defaultPath) throws(DatasetError) {
        let bytes: [UInt8]
        do throws(DatasetError) {
            bytes = try FileAccess.read(path, byteLimit: 1 << 28)
        } catch {
            throw DatasetError(
                code: .missingPictures, path: path, message: "the emoji font \(error.message)",
                remedy: "apt-get install fonts-noto-color-emoji, or give the path of NotoColorEmoji.ttf")
        }
        try self.init(bytes: bytes, path: path)
    }

    /// Reads a font held in memory; `path` is for errors.
    public init(bytes: [UInt8], path: String) throws(DatasetError) {
        let font = FontBytes(bytes: bytes, path: path)
        let glyphs = try CharacterMap(font).glyphs
        let locations = try BitmapLocations(font).locations
        let table = try font.table("CBDT")
        var images: [Unicode.Scalar: Range<Int>] = [:]
        for (point, glyph) in glyphs {
            guard let location = locations[glyph], let scalar = Unicode.Scalar(UInt32(point)) else { continue }
            images[scalar] = try Self.image(font, table, location)
        }
        self.path = path
        self.bytes = bytes
        self.images = images
        self.scalars = images.keys.sorted()
    }

    /// The PNG file of a code point's bitmap, or nil when it has none.
    public func png(for scalar: Unicode.Scalar) -> [UInt8]? {
        images[scalar].map { Array(bytes[$0]) }
    }

    /// The PNG within a record of `CBDT`: after small metrics (17), big metrics (18) or none (19), a length and the data.
    private static func image(
        _ font: FontBytes, _ table: FontBytes.Table, _ location: BitmapLocations.Location
    ) throws(DatasetError) -> Range<Int> {
        let metrics: Int
        switch location.imageFormat {
        case 17: metrics = 5
        case 18: metrics = 8
        case 19: metrics = 0
        default: throw font.malformed("CBDT: image format \(location.imageFormat); 17, 18 or 19 is expected")
        }
        let byteCount = try font.u32(table, location.offset + metrics)
        guard metrics + 4 + byteCount <= location.byteCount else {
            throw font.malformed("CBDT: a PNG of \(byteCount) bytes in a record of \(location.byteCount)")
        }
        return try font.slice(table, location.offset + metrics + 4, count: byteCount)
    }
}

extension EmojiFont: EmojiPictures {
    var fingerprint: String { Datasets.fingerprint(bytes) }

    func picture(of scalar: Unicode.Scalar) throws(DatasetError) -> RGBImage {
        let name = "U+" + String(scalar.value, radix: 16, uppercase: true)
        func malformed(_ message: String) -> DatasetError {
            FontBytes(bytes: [], path: path).malformed("\(name): \(message)")
        }
        let picture: RGBImage
        do throws(RasterError) {
            picture = try RGBImage(encoded: png(for: scalar) ?? [])
        } catch {
            throw malformed(error.message)
        }
        guard max(picture.width, picture.height) <= EmojiRendering.canvasSide else {
            throw malformed(
                "a bitmap of \(picture.width) x \(picture.height), at most \(EmojiRendering.canvasSide) a side is expected"
            )
        }
        return picture
    }
}
