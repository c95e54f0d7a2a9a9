import LibC
import TensorCore

/// DINOv3's rotary positions: queries and keys of patches are turned by angles that grow with row and column.
///
/// With centres c = 2 (i + 1/2) / n - 1 of rows and columns, angle = 2π c / temperature^(4m / d), m = 0..<d/4; a head's
/// first d/4 angles are the row's, the next the column's, and both are repeated for its second half.
/// x cos + rotate(x) sin, rotate([a ; b]) = [-b ; a]. Class token and registers are not turned.
///
/// - Source: timm layers/pos_embed_sincos.py, `RotaryEmbeddingDinoV3`; Meta's rope_position_encoding.py. Differences: none.
struct RotaryPositions {
    let headCount: Int
    /// [T · D], cosines.
    let cosines: Tensor
    /// [T · D], sines, negative in the first half of each head.
    let sines: Tensor

    init(_ configuration: DINOv2Configuration, engine: any Engine, dtype: DType) {
        headCount = configuration.headCount
        let (grid, prefix) = (configuration.gridSize, configuration.prefixCount)
        let periods = Self.periods(configuration)
        let centres = (0..<grid).map { (Double($0) + 0.5) / Double(grid) * 2 - 1 }
        var cosines = [Float](repeating: 1, count: prefix * configuration.width)
        var sines = [Float](repeating: 0, count: prefix * configuration.width)
        for row in 0..<grid {
            for column in 0..<grid {
                let angles = [centres[row], centres[column]].flatMap { centre in
                    periods.map { 2 * Double.pi * centre / $0 }
                }
                let (c, s) = (angles.map { Float(cos($0)) }, angles.map { Float(sin($0)) })
                for _ in 0..<headCount {
                    cosines += c + c
                    sines += s.map { -$0 } + s
                }
            }
        }
        self.cosines = engine.tensor(cosines, shape: [cosines.count], dtype: dtype)
        self.sines = engine.tensor(sines, shape: [sines.count], dtype: dtype)
    }

    /// temperature^(4m / d), m = 0..<d/4.
    static func periods(_ configuration: DINOv2Configuration) -> [Double] {
        let headWidth = configuration.width / configuration.headCount
        return (0..<headWidth / 4).map { pow(configuration.rotaryTemperature, 4 * Double($0) / Double(headWidth)) }
    }

    /// Queries or keys [B, T, D], turned.
    func callAsFunction(_ x_BTD: Tensor) -> Tensor {
        let (B, T, D) = (x_BTD.shape[0], x_BTD.shape[1], x_BTD.shape[2])
        let heads = x_BTD.reshaped(B, T, headCount, D / headCount)
        let half = D / headCount / 2
        let swapped = concatenated([heads.sliced(axis: 3, half..<2 * half), heads.sliced(axis: 3, 0..<half)], axis: 3)
        let turned = x_BTD.reshaped(B, T * D) * cosines + swapped.reshaped(B, T * D) * sines
        return turned.reshaped(B, T, D)
    }
}
