import Raster
import TestSupport

extension Golden {
    /// An 8-bit image [H, W, 3].
    func image(_ name: String) throws -> RGBImage {
        let shape = try shape(name)
        return RGBImage(width: shape[1], height: shape[0], pixels: try integers(name).map(UInt8.init))
    }
}
