internal import LibC

/// A resampling kernel of Pillow's `Image.resize`.
public enum ResamplingFilter: String, Sendable, CaseIterable {
    case box, bilinear, bicubic, lanczos

    /// Half of the kernel's width at scale 1, in pixels.
    var support: Double {
        switch self {
        case .box: 0.5
        case .bilinear: 1
        case .bicubic: 2
        case .lanczos: 3
        }
    }

    /// The kernel at distance `x`, in pixels.
    func callAsFunction(_ x: Double) -> Double {
        switch self {
        case .box: return x > -0.5 && x <= 0.5 ? 1 : 0
        case .bilinear: return max(0, 1 - abs(x))
        case .bicubic:
            // Keys' cubic with a = -0.5.
            let distance = abs(x)
            if distance < 1 { return (1.5 * distance - 2.5) * distance * distance + 1 }
            if distance < 2 { return (((distance - 5) * distance + 8) * distance - 4) * -0.5 }
            return 0
        case .lanczos: return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0
        }
    }

    private func sinc(_ x: Double) -> Double {
        x == 0 ? 1 : sin(x * .pi) / (x * .pi)
    }
}

/// The weights that make one output row or column out of the input, in 22-bit fixed point.
///
/// As Pillow's `precompute_coeffs` and `normalize_coeffs_8bpc`: when shrinking, the kernel is widened by the scale (antialiasing); weights
/// are normalised in double precision, then rounded half away from zero.
struct ResamplingWeights {
    /// Fraction bits: 32 less 8 for the pixel and 2 for the kernel's overshoot.
    static let fractionBits = 22

    /// First input position of each output position.
    let starts: [Int]
    /// How many inputs each output position takes.
    let counts: [Int]
    /// Distance between the weights of two output positions.
    let stride: Int
    /// [outputs, stride]
    let values: [Int32]

    init(_ filter: ResamplingFilter, from inputCount: Int, to outputCount: Int) {
        let scale = Double(inputCount) / Double(outputCount)
        let filterScale = max(scale, 1)
        let support = filter.support * filterScale
        let stride = Int(support.rounded(.up)) * 2 + 1
        var starts: [Int] = []
        var counts: [Int] = []
        var values = [Int32](repeating: 0, count: outputCount * stride)
        for output in 0..<outputCount {
            let center = (Double(output) + 0.5) * scale
            let start = max(0, Int(center - support + 0.5))
            let count = min(inputCount, Int(center + support + 0.5)) - start
            let weights = (0..<count).map { filter((Double($0 + start) - center + 0.5) * (1 / filterScale)) }
            let sum = weights.reduce(0, +)
            for (index, weight) in weights.enumerated() {
                let fixed = (sum != 0 ? weight / sum : weight) * Double(1 << Self.fractionBits)
                values[output * stride + index] = Int32(fixed < 0 ? fixed - 0.5 : fixed + 0.5)
            }
            starts.append(start)
            counts.append(count)
        }
        self.starts = starts
        self.counts = counts
        self.stride = stride
        self.values = values
    }
}
