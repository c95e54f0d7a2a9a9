import LibC
import TestSupport
import Testing

@testable import TensorCore

/// Holds every engine to the plain one, operation by operation, and both to finite differences.
@Suite struct EngineConformanceTests {
    /// fp32 results may differ by rounding of sums in another order; bfloat16 ones by a unit in the last place (2^-8) of
    /// each operand that is itself a result.
    static func tolerance(_ dtype: DType, _ operation: ConformanceCase) -> Float {
        if dtype == .float32 { return 1e-5 }
        // Attention rounds its probabilities and their gradients as well.
        return operation.name.hasPrefix("attention") ? 3e-2 : 1.6e-2
    }

    @Test("every engine gives the plain engine's results", arguments: ConformanceCases.all, DType.allCases)
    func agrees(_ operation: ConformanceCase, _ dtype: DType) {
        let expected = operation.run(OpenBLASEngine.shared, dtype)
        for engine in testEngines.dropFirst() {
            let actual = operation.run(engine, dtype)
            #expect(expected.count == actual.count)
            for (index, (reference, result)) in zip(expected, actual).enumerated() {
                let place = "\(engine.name), \(operation.name), tensor \(index)"
                #expect(reference.shape == result.shape && reference.dtype == result.dtype, "\(place)")
                expectAlike(result.values, reference.values, Self.tolerance(dtype, operation), place)
            }
        }
    }

    @Test("the same call gives the same bits on every thread", arguments: ConformanceCases.products)
    func repeats(_ operation: ConformanceCase) throws {
        for dtype in DType.allCases {
            let runs = Lanes(count: 3).map(3) { _ in
                operation.run(OneDNNEngine.shared, dtype).map { OneDNNEngine.shared.bytes(of: $0) }
            }
            #expect(runs[0] == runs[1] && runs[1] == runs[2])
        }
    }

    @Test(
        "a row of a product does not depend on how many rows there are",
        .enabled(if: OneDNN.rowsAreIndependent, "AVX2 products split their sums by the shape"),
        arguments: [(192, 768), (256, 256), (768, 192), (64, 64)])
    func rowsAreIndependent(_ K: Int, _ N: Int) {
        let engine = OneDNNEngine.shared
        for dtype in DType.allCases {
            let x = engine.normal([640, K], dtype)
            let weight = engine.normal([N, K], dtype, seed: 1)
            let all = engine.linear(x, weight: weight, bias: nil, activation: .geluTanh)
            for rows in [1, 16, 80, 320] {
                let part = engine.linear(x.rows(0..<rows), weight: weight, bias: nil, activation: .geluTanh)
                #expect(engine.bytes(of: part) == engine.bytes(of: all.rows(0..<rows)), "\(rows) rows of 640, \(dtype)")
            }
        }
    }

    @Test("a row's norm and a query's attention do not depend on the rows they are computed side by side with")
    func neighboursDoNotMatter() {
        let engine = OneDNNEngine.shared
        for dtype in DType.allCases {
            let x = engine.normal([11, 200], dtype, offset: 3)
            let (weight, bias) = (engine.normal([200], dtype, seed: 1), engine.normal([200], dtype, seed: 2))
            let (key, value) = (
                engine.normal([1, 37, 200], dtype, seed: 3), engine.normal([1, 37, 200], dtype, seed: 4)
            )
            func normed(_ x: Tensor) -> Tensor { layerNorm(x, weight: weight, bias: bias, epsilon: 1e-6) }
            func attended(_ x: Tensor) -> Tensor {
                attention(x.reshaped(1, -1, 200), key, value, headCount: 5).reshaped(-1, 200)
            }
            let (allNormed, allAttended) = (normed(x), attended(x))
            for row in 0..<11 {
                let own = row..<row + 1
                #expect(
                    engine.bytes(of: normed(x.rows(own))) == engine.bytes(of: allNormed.rows(own)),
                    "norm of row \(row), \(dtype)")
                #expect(
                    engine.bytes(of: attended(x.rows(own))) == engine.bytes(of: allAttended.rows(own)),
                    "attention of row \(row), \(dtype)")
            }
        }
    }

    @Test(
        "an image's convolution does not depend on the images beside it",
        arguments: [(16, 64, 64), (64, 64, 64), (32, 128, 128), (16, 256, 256), (64, 64, 3), (13, 48, 40)])
    func imagesAreIndependent(_ side: Int, _ input: Int, _ output: Int) {
        let engine = OneDNNEngine.shared
        for dtype in DType.allCases {
            let images = engine.normal([4, side, side, input], dtype)
            let weight = engine.normal([output, input, 3, 3], dtype, seed: 1)
            let geometry = ConvolutionGeometry(padding: 1)
            let all = engine.convolution(images, weight: weight, bias: nil, geometry: geometry)
            for count in 1...3 {
                let part = engine.convolution(images.rows(0..<count), weight: weight, bias: nil, geometry: geometry)
                let same = engine.bytes(of: part) == engine.bytes(of: all.rows(0..<count))
                #expect(same, "\(count) images of 4, \(dtype)")
            }
        }
    }

    @Test("activations are accurate to 2e-6", arguments: Activation.allCases)
    func activationsAreAccurate(_ activation: Activation) {
        let engine = OneDNNEngine.shared
        let x = (0..<20_001).map { (Float($0) - 10_000) / 1000 }.filter { activation != .sqrt || $0 > 0 }
        let actual = engine.activate(engine.tensor(x, shape: [x.count]), activation).values
        // The tail of GELU is the product of x and a number near zero whose absolute error counts, not its relative one.
        let floor: Double = activation == .geluErf ? 3e-3 : 1e-4
        var worst: Double = 0
        for (argument, value) in zip(x, actual) {
            let exact = exactly(activation, Double(argument))
            worst = max(worst, abs(Double(value) - exact) / max(abs(exact), floor))
        }
        #expect(worst < 2e-6, "\(activation): \(worst)")
    }

    /// The formula in double precision.
    private func exactly(_ activation: Activation, _ x: Double) -> Double {
        switch activation {
        case .silu: x / (1 + exp(-x))
        case .geluTanh: 0.5 * x * (1 + LibC.tanh((2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x)))
        case .geluErf: 0.5 * x * erfc(-x / 2.0.squareRoot())
        case .quickGelu: x / (1 + exp(-1.702 * x))
        case .relu: max(x, 0)
        case .tanh: LibC.tanh(x)
        case .sigmoid: 1 / (1 + exp(-x))
        case .exp: LibC.exp(x)
        case .sqrt: x.squareRoot()
        case .softplus: log1p(exp(x))
        case .square: x * x
        }
    }

    @Test("exp is zero below the smallest normal number; hidden keys are there")
    func smallExponents() {
        let engine = OneDNNEngine.shared
        let x: [Float] = [-.infinity, -1000, -104, -88, -87, 0, 90, .infinity, .nan]
        let y = engine.activate(engine.tensor(x, shape: [x.count]), .exp).values
        #expect(y[..<4] == [0, 0, 0, 0] && y[5...7] == [1, .infinity, .infinity] && y[8].isNaN)
        // lanes_exp: 2e-7, and 6e-8 |x| on processors without fused multiply-adds.
        #expect(abs(y[4] / LibC.exp(-87) - 1) < 2e-7 + 6e-8 * 87, "\(y[4])")
    }

    @Test("an activation within a linear layer has the bits of the activation after it", arguments: DType.allCases)
    func fusedActivations(_ dtype: DType) {
        let engine = OneDNNEngine.shared
        let x = engine.normal([200, 192], dtype)
        let weight = engine.normal([768, 192], dtype, seed: 1, scale: 0.1)
        let bias = engine.normal([768], dtype, seed: 2)
        let plain = engine.linear(x, weight: weight, bias: bias, activation: nil)
        for activation in Activation.allCases {
            let fused = engine.linear(x, weight: weight, bias: bias, activation: activation)
            #expect(engine.bytes(of: fused) == engine.bytes(of: engine.activate(plain, activation)), "\(activation)")
        }
    }

    @Test("an addition within a linear layer has the bits of the addition after it in fp32")
    func fusedAddition() {
        let engine = OneDNNEngine.shared
        let (x, base) = (engine.normal([65, 192]), engine.normal([65, 384], seed: 3))
        let (weight, bias) = (engine.normal([384, 192], seed: 1, scale: 0.1), engine.normal([384], seed: 2))
        let fused = engine.linear(x, weight: weight, bias: bias, addedTo: base)
        let product = engine.linear(x, weight: weight, bias: bias, activation: nil)
        #expect(engine.bytes(of: fused) == engine.bytes(of: engine.add(base, product, scale: 1)))
    }

    @Test("infinities and NaN are passed on")
    func specialValues() {
        let engine = OneDNNEngine.shared
        let x = engine.tensor([.nan, .infinity, -.infinity, 200, -200] + [Float](repeating: 0, count: 20), shape: [25])
        let exponential = engine.activate(x, .exp).values
        #expect(exponential[0].isNaN && exponential[1] == .infinity && exponential[2] == 0)
        #expect(exponential[3] == .infinity && exponential[4] == 0)
        for activation in Activation.allCases {
            #expect(engine.activate(x, activation).values[0].isNaN, "\(activation)")
        }
        let gelu = engine.activate(x, .geluErf).values
        #expect(gelu[1] == .infinity && gelu[2] == 0 && gelu[3] == 200 && gelu[4] == 0 && gelu[5] == 0)
        let probabilities = engine.softmax(x).values
        #expect(probabilities.allSatisfy { $0.isNaN })
        #expect(engine.convert(x, to: .bfloat16).values[0].isNaN)
    }
}

/// Expects |actual - expected| <= tolerance (|expected| + root mean square of expected), element by element.
func expectAlike(
    _ actual: [Float], _ expected: [Float], _ tolerance: Float, _ label: String,
    sourceLocation: SourceLocation = #_sourceLocation
) {
    guard actual.count == expected.count, !actual.isEmpty else {
        #expect(actual.count == expected.count, "\(label)", sourceLocation: sourceLocation)
        return
    }
    let size = (expected.reduce(0) { $0 + $1 * $1 } / Float(expected.count)).squareRoot()
    var worst: (index: Int, excess: Float) = (0, 0)
    for index in actual.indices {
        let excess = abs(actual[index] - expected[index]) / (tolerance * (abs(expected[index]) + size) + 1e-30)
        if !(excess <= worst.excess) { worst = (index, excess) }
    }
    #expect(
        worst.excess <= 1,
        "\(label): element \(worst.index) is \(actual[worst.index]), expected \(expected[worst.index])",
        sourceLocation: sourceLocation)
}
