/// What a file's first bytes say that it is, whatever its name says.
enum ImageFormat: Equatable {
    case png, jpeg, webp
    /// Something else: its name in a sentence, and what to do about it.
    case other(name: String, remedy: String)

    /// The format of the file that begins with `head`; a few hundred bytes are enough.
    init(head: some Collection<UInt8>) {
        let head = Array(head.prefix(512))
        func begins(_ signature: [UInt8], at offset: Int = 0) -> Bool {
            head.dropFirst(offset).starts(with: signature)
        }
        if begins([0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]) {
            self = .png
        } else if begins([0xFF, 0xD8, 0xFF]) {
            self = .jpeg
        } else if begins(Array("RIFF".utf8)), begins(Array("WEBP".utf8), at: 8) {
            self = .webp
        } else if let (_, name, remedy) = Self.signatures.first(where: { begins($0.bytes) }) {
            self = .other(name: name, remedy: remedy)
        } else if begins(Array("ftyp".utf8), at: 4) {
            let brand = String(decoding: head.dropFirst(8).prefix(4), as: UTF8.self)
            self = .other(name: Self.brands[brand] ?? "a video", remedy: Self.conversion)
        } else {
            self = Self.text(head)
        }
    }

    private static let conversion = "convert the image to PNG"

    /// Formats that are known and not read.
    private static let signatures: [(bytes: [UInt8], name: String, remedy: String)] = [
        (Array("GIF8".utf8), "a GIF", conversion),
        (Array("BM".utf8), "a BMP", conversion),
        ([0x49, 0x49, 0x2A, 0x00], "a TIFF", conversion), ([0x4D, 0x4D, 0x00, 0x2A], "a TIFF", conversion),
        ([0x49, 0x49, 0x2B, 0x00], "a TIFF", conversion), ([0x4D, 0x4D, 0x00, 0x2B], "a TIFF", conversion),
        ([0xFF, 0x0A], "a JPEG XL", conversion),
        ([0, 0, 0, 12, 0x4A, 0x58, 0x4C, 0x20], "a JPEG XL", conversion),
        ([0, 0, 0, 12, 0x6A, 0x50, 0x20, 0x20], "a JPEG 2000", conversion),
        ([0xFF, 0x4F, 0xFF, 0x51], "a JPEG 2000", conversion),
        ([0, 0, 1, 0], "an icon", conversion),
        (Array("8BPS".utf8), "a Photoshop document", conversion),
        (Array("%PDF".utf8), "a PDF", conversion),
        (Array("PK".utf8) + [3, 4], "a ZIP archive", "unpack it and name the images in it"),
        ([0x1F, 0x8B], "a gzip archive", "unpack it and name the images in it"),
        ([0x93] + Array("NUMPY".utf8), "a NumPy array", "save the image as PNG"),
        (
            Array("version https://git-lfs".utf8), "a Git LFS pointer instead of the image",
            "fetch the images with `git lfs pull`"
        ),
    ]

    /// Formats in ISO's container of boxes, by the brand that comes first.
    private static let brands = [
        "avif": "an AVIF", "avis": "an AVIF", "heic": "a HEIC", "heix": "a HEIC", "hevc": "a HEIC", "hevx": "a HEIC",
        "heim": "a HEIC", "heis": "a HEIC", "mif1": "a HEIF", "msf1": "a HEIF",
    ]

    /// Text that is taken for an image, or what nobody knows.
    private static func text(_ head: [UInt8]) -> ImageFormat {
        if head.isEmpty { return .other(name: "empty", remedy: "export the image again or leave it out") }
        let start = String(decoding: head, as: UTF8.self).lowercased()
        if start.contains("<svg") { return .other(name: "an SVG", remedy: conversion) }
        if start.contains("<html") || start.contains("<!doctype html") {
            return .other(
                name: "a web page instead of the image", remedy: "download the image itself and check the address")
        }
        return .other(name: "not a PNG, JPEG or WebP image", remedy: conversion)
    }
}
