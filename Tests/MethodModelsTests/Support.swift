import AdvGRPO
import MethodModels
import Raster
import TensorCore
import TestSupport
import Testing

extension Golden {
    /// An 8-bit image [H, W, 3].
    func image(_ name: String) throws -> RGBImage {
        let shape = try shape(name)
        return RGBImage(width: shape[1], height: shape[0], pixels: try integers(name).map(UInt8.init))
    }
}

/// A frozen reward in fp32 that reads no references.
func frozenReward(_ name: String, folder: String = "", engine: any Engine = OpenBLASEngine.shared, chunk: Int = 1)
    throws
    -> FrozenReward
{
    try FrozenReward(
        #require(RewardComponent(rawValue: name)), folder: folder, engine: engine, dtype: .float32,
        chunks: Chunks(size: chunk)
    ) { prompt, _, _ in
        Issue.record("references of \(prompt) are read")
        return []
    }
}
