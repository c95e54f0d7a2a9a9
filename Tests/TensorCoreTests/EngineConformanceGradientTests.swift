import Testing

@testable import TensorCore

/// A scalar function of a few leaves, to be differentiated on every engine.
struct GradientCase: Sendable, CustomTestStringConvertible {
    let name: String
    let shapes: [[Int]]
    let function: @Sendable ([Tensor]) -> Tensor
    var testDescription: String { name }

    init(_ name: String, _ shapes: [[Int]], _ function: @escaping @Sendable ([Tensor]) -> Tensor) {
        self.name = name
        self.shapes = shapes
        self.function = function
    }
}

@Suite struct EngineConformanceGradientTests {
    static let cases: [GradientCase] =
        Activation.allCases.map { activation in
            GradientCase("\(activation)", [[3, 5]]) {
                (activation == .sqrt ? ($0[0] * $0[0]) + 1 : $0[0]).activated(activation)
            }
        } + [
            GradientCase("linear", [[4, 6], [5, 6], [5]]) {
                linear($0[0], weight: $0[1], bias: $0[2], activation: .geluTanh)
            },
            GradientCase("low-rank update", [[4, 6], [16, 1], [1, 6], [16]]) {
                linear($0[0], weight: updated($0[1], $0[2], scale: 1.5), bias: $0[3], activation: .silu)
            },
            GradientCase("low-rank update whose factors take more operations", [[4, 6], [8, 3], [3, 6]]) {
                linear($0[0], weight: updated($0[1], $0[2], scale: 1.5), activation: .silu)
            },
            GradientCase("low-rank update of a weight that is not only multiplied", [[4, 6], [16, 1], [1, 6]]) {
                let weight = updated($0[1], $0[2], scale: 1.5)
                return concatenated([linear($0[0], weight: weight), weight.transposed(1, 0)], axis: 0)
            },
            GradientCase("attention", [[2, 5, 16], [2, 7, 16], [2, 7, 16]]) {
                attention($0[0], $0[1], $0[2], headCount: 2)
            },
            GradientCase("causal attention", [[1, 5, 16], [1, 5, 16], [1, 5, 16]]) {
                attention($0[0], $0[1], $0[2], headCount: 1, mask: .causal)
            },
            GradientCase("convolution", [[1, 5, 4, 3], [4, 3, 3, 3], [4]]) {
                convolution($0[0], weight: $0[1], bias: $0[2], geometry: ConvolutionGeometry(padding: 1))
            },
            GradientCase("strided convolution", [[1, 4, 4, 3], [4, 3, 3, 3]]) {
                convolution(
                    $0[0], weight: $0[1], bias: nil,
                    geometry: ConvolutionGeometry(stride: 2, top: 0, left: 0, bottom: 1, right: 1))
            },
            GradientCase("layer norm", [[4, 6], [6], [6]]) {
                layerNorm($0[0], weight: $0[1], bias: $0[2], epsilon: 1e-5)
            },
            GradientCase("modulated layer norm", [[2, 3, 6], [2, 3, 6]]) {
                modulatedLayerNorm($0[0], modulation: $0[1], shift: 0, scale: 2, epsilon: 1e-5)
            },
            GradientCase("rms norm", [[4, 6], [6]]) { rmsNorm($0[0], weight: $0[1], epsilon: 1e-5) },
            GradientCase("group norm", [[2, 5, 6], [6], [6]]) {
                groupNorm($0[0], groupCount: 3, weight: $0[1], bias: $0[2], epsilon: 1e-5, silu: true)
            },
            GradientCase("softmax", [[3, 6]]) { $0[0].softmax() },
            GradientCase("unit norm", [[3, 6]]) { $0[0].unitNormalized(epsilon: 0.1) },
            GradientCase("gated add", [[2, 3, 6], [2, 3, 6], [2, 2, 6]]) {
                $0[0].adding($0[1], gatedBy: $0[2], row: 1)
            },
            GradientCase("broadcasts", [[3, 2, 5], [5], [2, 5], [3]]) { ($0[0] * $0[1] + $0[2]).scaledRows(by: $0[3]) },
            GradientCase("mean of the largest", [[3, 9]]) { $0[0].topMean(4) },
            GradientCase("token statistics", [[2, 7, 3]]) { $0[0].tokenStatistics() },
            GradientCase("bicubic up", [[2, 4, 5, 3]]) { $0[0].resizedBicubic(height: 7, width: 6) },
            GradientCase("bicubic down", [[1, 9, 7, 2]]) { $0[0].resizedBicubic(height: 4, width: 7) },
            GradientCase("minimum and clamp", [[3, 9], [3, 9]]) { minimum($0[0], $0[1]).clamped(to: -0.9004...0.9004) },
            GradientCase("layout", [[1, 4, 4, 3]]) {
                let tokens = patchified($0[0].upsampledNearest().transposed(0, 3, 1, 2), patch: 2)
                return concatenated([tokens, tokens.sliced(axis: 1, 3..<7)], axis: 1).gathered()
            },
        ]

    @Test("gradients equal central differences", arguments: cases, EngineKind.allCases)
    func matchesDifferences(_ operation: GradientCase, _ kind: EngineKind) throws {
        let engine = try kind.engine()
        let values = operation.shapes.enumerated().map { engine.normal($1, seed: 20 + $0).values }
        func leaves(_ values: [[Float]]) -> [Tensor] {
            zip(values, operation.shapes).map { engine.tensor($0, shape: $1) }
        }
        /// The result against fixed weights, added up in double precision.
        func objective(_ values: [[Float]]) -> Double {
            let y = operation.function(leaves(values)).values
            let weights = Philox(seed: 7, purpose: .tests, 99).normals(y.count)
            return zip(y, weights).reduce(0) { $0 + Double($1.0) * Double($1.1) }
        }
        let tracked = leaves(values).map { $0.tracked() }
        let y = operation.function(tracked)
        let weights = Philox(seed: 7, purpose: .tests, 99).normals(y.count)
        let gradients = y.gradients(upstream: engine.tensor(weights, shape: y.shape))
        for (leaf, tensor) in tracked.enumerated() {
            let gradient = try #require(gradients[tensor]).values
            let differences = values[leaf].indices.map { index in
                let (step, original) = (Float(1.0 / 1024), values[leaf][index])
                var moved = values
                moved[leaf][index] = original + step
                let above = objective(moved)
                moved[leaf][index] = original - step
                return Float((above - objective(moved)) / Double(2 * step))
            }
            expectAlike(gradient, differences, 5e-3, "\(operation.name), leaf \(leaf), \(kind)")
        }
    }
}

/// A constant weight with this update.
private func updated(_ up: Tensor, _ down: Tensor, scale: Float) -> Tensor {
    updated(up.engine.normal([up.shape[0], down.shape[1]], seed: 50), up: up, down: down, scale: scale)
}

extension Tensor {
    /// Rows 2, 0, 2 of this tensor seen as a table.
    fileprivate func gathered() -> Tensor { reshaped(-1, size(-1)).gatheredRows([2, 0, 2]) }
}
