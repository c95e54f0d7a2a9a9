import Testing

@testable import TensorCore

/// One call of one operation on seeded operands; every engine has to give the same tensors.
struct ConformanceCase: Sendable, CustomTestStringConvertible {
    let name: String
    let run: @Sendable (any Engine, DType) -> [Tensor]
    var testDescription: String { name }

    init(_ name: String, _ run: @escaping @Sendable (any Engine, DType) -> [Tensor]) {
        self.name = name
        self.run = run
    }
}

extension Engine {
    /// Seeded normal numbers, rounded to bfloat16 first so that both precisions start from the same operands.
    func normal(_ shape: [Int], _ dtype: DType = .float32, seed: Int = 0, scale: Float = 1, offset: Float = 0) -> Tensor
    {
        let numbers = Philox(seed: 7, purpose: .tests, seed).normals(shape.reduce(1, *))
        return tensor(numbers.map { BFloat16($0 * scale + offset).float }, shape: shape, dtype: dtype)
    }
}

enum ConformanceCases {
    static let all: [ConformanceCase] = products + normalizations + elementwise + reductions + layouts

    static let products: [ConformanceCase] = linear + residual + matmul + attention + convolution

    private static let fusedActivations: [Activation?] = [nil, .silu, .geluTanh, .geluErf, .quickGelu, .relu]

    private static let linear = [(1, 5, 3), (7, 64, 33), (80, 192, 768), (33, 256, 16)].flatMap { M, K, N in
        fusedActivations.map { activation in
            ConformanceCase("linear \(M)x\(K)x\(N) \(activation?.rawValue ?? "")") { engine, dtype in
                let x = engine.normal([M, K], dtype)
                let weight = engine.normal([N, K], dtype, seed: 1, scale: 0.1)
                let bias = engine.normal([N], dtype, seed: 2)
                return [
                    engine.linear(x, weight: weight, bias: bias, activation: activation),
                    engine.linear(x, weight: weight, bias: nil, activation: activation),
                    // A second use takes the packed copy; so does the input's gradient.
                    engine.linear(x, weight: weight, bias: bias, activation: activation),
                    engine.matmul(
                        engine.normal([M, N], dtype, seed: 3), weight, transposeA: false, transposeB: false,
                        dtype: dtype),
                ]
            }
        }
    }

    private static let residual = [(1, 5, 3), (80, 192, 768), (33, 256, 16)].map { M, K, N in
        ConformanceCase("linear \(M)x\(K)x\(N) added") { engine, dtype in
            let (x, base) = (engine.normal([M, K], dtype), engine.normal([M, N], dtype, seed: 3))
            let weight = engine.normal([N, K], dtype, seed: 1, scale: 0.1)
            return [engine.normal([N], dtype, seed: 2), nil].map {
                engine.linear(x, weight: weight, bias: $0, addedTo: base)
            }
        }
    }

    private static let matmul = [(1, 1, 1), (5, 3, 7), (48, 64, 80), (17, 100, 33)].flatMap { m, k, n in
        [(false, false), (true, false), (false, true), (true, true)].map { transposeA, transposeB in
            ConformanceCase("matmul \(m)x\(k)x\(n) \(transposeA) \(transposeB)") { engine, dtype in
                let a = engine.normal(transposeA ? [k, m] : [m, k], dtype)
                let b = engine.normal(transposeB ? [n, k] : [k, n], dtype, seed: 1)
                let float = engine.normal([n], .float32)
                return [dtype, .float32].map {
                    engine.matmul(a, b, transposeA: transposeA, transposeB: transposeB, dtype: $0)
                } + [
                    engine.add(
                        engine.linear(a.reshaped(1, m * k), weight: a.reshaped(1, m * k), bias: nil, activation: nil),
                        float.rows(0..<1).reshaped(1, 1), scale: 1)
                ]
            }
        }
    }

    private static let attention = [
        (2, 80, 80, 3, 64), (1, 1, 9, 2, 8), (1, 50, 50, 1, 128), (2, 7, 100, 2, 24), (1, 100, 33, 1, 40),
    ]
    .flatMap { B, Sq, Sk, H, d in
        [(AttentionMask.none, false), (.causal, false), (.none, true)].compactMap { mask, biased -> ConformanceCase? in
            if mask == .causal && Sq != Sk { return nil }
            return ConformanceCase("attention \(B) \(Sq)x\(Sk) \(H)x\(d) \(mask)\(biased ? " biased" : "")") {
                engine, dtype in
                let (q, k) = (engine.normal([B, Sq, H * d], dtype), engine.normal([B, Sk, H * d], dtype, seed: 1))
                let (v, up) = (
                    engine.normal([B, Sk, H * d], dtype, seed: 2), engine.normal([B, Sq, H * d], dtype, seed: 3)
                )
                let bias = biased ? engine.normal([H, Sq, Sk], seed: 4) : nil
                let scale = 1 / Float(d).squareRoot()
                let forward = engine.attention(q, k, v, headCount: H, scale: scale, mask: mask, bias: bias)
                let backward = engine.attentionBackward(
                    up, q: q, k: k, v: v, output: forward.output, logSum: forward.logSum, headCount: H, scale: scale,
                    mask: mask, bias: bias)
                return [forward.output, forward.logSum, backward.q, backward.k, backward.v]
            }
        }
    }

    private static let convolution: [ConformanceCase] = [
        (2, 8, 8, 16, 32, 3, ConvolutionGeometry(padding: 1)), (1, 7, 5, 3, 8, 3, ConvolutionGeometry(padding: 1)),
        (1, 8, 8, 16, 16, 1, ConvolutionGeometry(padding: 0)),
        (2, 14, 14, 3, 24, 7, ConvolutionGeometry(stride: 7, padding: 0)),
        (1, 8, 8, 16, 16, 3, ConvolutionGeometry(stride: 2, top: 0, left: 0, bottom: 1, right: 1)),
        (2, 16, 16, 64, 3, 3, ConvolutionGeometry(padding: 1)), (3, 21, 13, 64, 96, 3, ConvolutionGeometry(padding: 1)),
    ].map { B, H, W, C, O, size, geometry in
        ConformanceCase("convolution \(B)x\(H)x\(W)x\(C) to \(O), \(size)x\(size) stride \(geometry.stride)") {
            engine, dtype in
            let x = engine.normal([B, H, W, C], dtype)
            let weight = engine.normal([O, C, size, size], dtype, seed: 1, scale: 0.1)
            let y = engine.convolution(x, weight: weight, bias: engine.normal([O], dtype, seed: 2), geometry: geometry)
            let up = engine.normal(y.shape, dtype, seed: 3)
            return [
                y, engine.convolution(x, weight: weight, bias: nil, geometry: geometry),
                engine.convolutionInputGradient(up, weight: weight, inputShape: x.shape, geometry: geometry),
                engine.convolutionWeightGradient(up, input: x, weightShape: weight.shape, geometry: geometry),
            ]
        }
    }

    static let normalizations: [ConformanceCase] =
        [7, 16, 64, 192, 200, 2100].flatMap { D in
            [
                ConformanceCase("layer norm \(D)") { engine, dtype in
                    let (x, up) = (engine.normal([9, D], dtype, offset: 3), engine.normal([9, D], dtype, seed: 1))
                    let (weight, bias) = (engine.normal([D], dtype, seed: 2), engine.normal([D], dtype, seed: 3))
                    let affine = engine.layerNormBackward(up, input: x, weight: weight, epsilon: 1e-6)
                    return [
                        engine.layerNorm(x, weight: weight, bias: bias, epsilon: 1e-6),
                        engine.layerNorm(x, weight: nil, bias: nil, epsilon: 1e-6), affine.input,
                        engine.layerNormBackward(up, input: x, weight: nil, epsilon: 1e-6).input,
                    ] + [affine.weight, affine.bias].compactMap { $0 }
                },
                ConformanceCase("modulated layer norm \(D)") { engine, dtype in
                    let (x, up) = (engine.normal([2, 5, D], dtype), engine.normal([2, 5, D], dtype, seed: 1))
                    let modulation = engine.normal([2, 6, D], dtype, seed: 2)
                    let backward = engine.modulatedLayerNormBackward(
                        up, input: x, modulation: modulation, shift: 3, scale: 4, epsilon: 1e-6)
                    return [
                        engine.modulatedLayerNorm(x, modulation: modulation, shift: 3, scale: 4, epsilon: 1e-6),
                        backward.input,
                        backward.modulation,
                    ]
                },
                ConformanceCase("rms norm \(D)") { engine, dtype in
                    let (x, up) = (engine.normal([9, D], dtype), engine.normal([9, D], dtype, seed: 1))
                    let weight = engine.normal([D], dtype, seed: 2)
                    let backward = engine.rmsNormBackward(up, input: x, weight: weight, epsilon: 1e-6)
                    return [engine.rmsNorm(x, weight: weight, epsilon: 1e-6), backward.input, backward.weight]
                },
                ConformanceCase("softmax and unit norm \(D)") { engine, dtype in
                    let (x, up) = (engine.normal([9, D], dtype, scale: 3), engine.normal([9, D], dtype, seed: 1))
                    let y = engine.softmax(x)
                    return [
                        y, engine.softmaxBackward(up, output: y), engine.unitNorm(x, epsilon: 1e-3),
                        engine.unitNormBackward(up, input: x, epsilon: 1e-3),
                    ]
                },
            ]
        }
        + [(2, 9, 32, 8, false), (2, 16, 64, 32, true), (1, 5, 24, 3, true)].map { B, P, C, groups, silu in
            ConformanceCase("group norm \(B) \(P) \(C) \(groups) \(silu)") { engine, dtype in
                let (x, up) = (engine.normal([B, P, C], dtype, offset: 2), engine.normal([B, P, C], dtype, seed: 1))
                let (weight, bias) = (engine.normal([C], dtype, seed: 2), engine.normal([C], dtype, seed: 3))
                let backward = engine.groupNormBackward(
                    up, input: x, groupCount: groups, weight: weight, bias: bias, epsilon: 1e-6, silu: silu)
                return [
                    engine.groupNorm(x, groupCount: groups, weight: weight, bias: bias, epsilon: 1e-6, silu: silu),
                    backward.input,
                    backward.weight, backward.bias,
                ]
            }
        }
}
