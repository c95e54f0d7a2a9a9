internal import Platform
internal import Raster

#if canImport(FoundationEssentials)
    internal import FoundationEssentials
#else
    internal import Foundation
#endif

/// Pictures as PNG files named by their code points, such as `1F600.png`; those of sequences (`1F1E6-1F1E8.png`) are left out.
struct EmojiFolder: EmojiPictures {
    /// Longer side of the pictures as they are used: Noto's.
    static let pictureSide = 128

    let path: String
    let fingerprint: String
    let scalars: [Unicode.Scalar]
    private let files: [Unicode.Scalar: [UInt8]]

    /// Reads all of a folder's pictures.
    ///
    /// - Parameter package: what to install where there are none.
    /// - Throws: `DatasetError`: `missingPictures`, or what the disk says.
    init(path: String, package: String) throws(DatasetError) {
        let names = ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted()
        var files: [Unicode.Scalar: [UInt8]] = [:]
        for name in names where name.hasSuffix(".png") {
            guard let point = UInt32(name.dropLast(4), radix: 16), let scalar = Unicode.Scalar(point) else { continue }
            files[scalar] = try FileAccess.read("\(path)/\(name)", byteLimit: 1 << 24)
        }
        guard !files.isEmpty else {
            throw DatasetError(
                code: .missingPictures, path: path, message: "has no pictures named by code points, such as 1F600.png",
                remedy: "apt-get install \(package), or give the folder that has them")
        }
        self.path = path
        self.files = files
        scalars = files.keys.sorted()
        fingerprint = Datasets.fingerprint(scalars.lazy.flatMap { files[$0] ?? [] })
    }

    /// Resized with Lanczos so that its longer side is as long as Noto's.
    func picture(of scalar: Unicode.Scalar) throws(DatasetError) -> RGBImage {
        let name = "\(path)/\(String(scalar.value, radix: 16, uppercase: true)).png"
        let image: RGBImage
        do throws(RasterError) {
            image = try RGBImage(encoded: files[scalar] ?? [], path: name)
        } catch {
            throw DatasetError(error, code: .malformedPicture)
        }
        let longer = max(image.width, image.height)
        func scaled(_ side: Int) -> Int { max(1, (side * Self.pictureSide + longer / 2) / longer) }
        return image.resized(width: scaled(image.width), height: scaled(image.height), filter: .lanczos)
    }
}
