@testable import TensorCore

extension ConformanceCases {
    static let elementwise: [ConformanceCase] =
        Activation.allCases.map { activation in
            ConformanceCase("activation \(activation)") { engine, dtype in
                let x =
                    activation == .sqrt
                    ? engine.normal([5, 37], dtype).activated(.square) + 0.5 : engine.normal([5, 37], dtype, scale: 4)
                let up = engine.normal([5, 37], dtype, seed: 1)
                return [engine.activate(x, activation), engine.activateBackward(up, input: x, activation)]
            }
        } + [
            ConformanceCase("arithmetic") { engine, dtype in
                let (a, b) = (engine.normal([3, 37], dtype), engine.normal([3, 37], dtype, seed: 1))
                return [
                    engine.add(a, b, scale: -0.5), engine.multiply(a, b), engine.affine(a, scale: 2, offset: -1),
                    engine.minimum(a, b), engine.clamp(a, low: -0.5, high: 0.25),
                ]
            },
            ConformanceCase("gradients of minimum and clamp") { engine, dtype in
                let (a, b) = (engine.normal([3, 37], dtype), engine.normal([3, 37], dtype, seed: 1))
                let up = engine.normal([3, 37], dtype, seed: 2)
                return [true, false].flatMap {
                    [engine.minimumBackward(up, a, b, first: $0), engine.minimumBackward(up, a, a, first: $0)]
                } + [engine.clampBackward(up, input: a, low: -0.5, high: 0.25)]
            },
            ConformanceCase("broadcasts") { engine, dtype in
                let a = engine.normal([4, 3, 21], dtype)
                let float = engine.normal([21], seed: 5)
                return [
                    engine.multiplyBroadcast(a, engine.normal([21], dtype, seed: 1), onRows: false),
                    engine.multiplyBroadcast(a, engine.normal([4], dtype, seed: 2), onRows: true),
                    engine.multiplyBroadcast(a, float, onRows: false),
                    engine.addBroadcast(a, engine.normal([3, 21], dtype, seed: 3)), engine.addBroadcast(a, float),
                ]
            },
            ConformanceCase("gated add") { engine, dtype in
                let (base, y) = (engine.normal([2, 5, 40], dtype), engine.normal([2, 5, 40], dtype, seed: 1))
                let (modulation, up) = (
                    engine.normal([2, 3, 40], dtype, seed: 2), engine.normal([2, 5, 40], dtype, seed: 3)
                )
                let backward = engine.gatedAddBackward(up, y: y, modulation: modulation, gate: 2)
                return [engine.gatedAdd(base, y, modulation: modulation, gate: 1), backward.y, backward.modulation]
            },
            ConformanceCase("conversion") { engine, dtype in
                let x = engine.normal([3, 21]).activated(.exp)
                return DType.allCases.map { engine.convert(engine.convert(x, to: dtype), to: $0) }
            },
            ConformanceCase("adam") { engine, _ in
                let (p, g) = (engine.normal([5, 13]), engine.normal([5, 13], seed: 1))
                let zero = engine.zeros([5, 13])
                let step = AdamStep(learningRate: 0.01, weightDecay: 0.1, number: 1)
                let first = engine.adam(parameter: p, gradient: g, moment1: zero, moment2: zero, step)
                let second = engine.adam(
                    parameter: first.parameter, gradient: engine.normal([5, 13], seed: 2), moment1: first.moment1,
                    moment2: first.moment2, AdamStep(learningRate: 0.01, weightDecay: 0.1, number: 2))
                return [first.parameter, second.parameter, second.moment1, second.moment2]
            },
        ]

    static let reductions: [ConformanceCase] = [
        ConformanceCase("sums and means") { engine, dtype in
            let x = engine.normal([6, 3, 35], dtype)
            return [
                engine.sumRows(x, trailing: 35), engine.sumRows(x, trailing: 105), engine.meanBlocks(x, rows: 6),
                engine.meanBlocks(engine.normal([1, 70_000], dtype, offset: 1), rows: 1),
                engine.tensor([Float(engine.sumOfSquares(x))], shape: []),
                engine.spread(engine.normal([6]), to: [6, 3, 5], dtype: dtype),
            ]
        },
        ConformanceCase("mean of the largest") { engine, dtype in
            let (x, up) = (engine.normal([5, 37], dtype), engine.normal([5], seed: 1))
            let ties = engine.tensor([1, 2, 2, 2, 0, 0], shape: [1, 6], dtype: dtype)
            return [1, 4, 37].flatMap {
                [engine.topMean(x, count: $0), engine.topMeanBackward(up, input: x, count: $0)]
            } + [
                engine.topMean(ties, count: 2),
                engine.topMeanBackward(engine.tensor([1], shape: [1]), input: ties, count: 2),
            ]
        },
        ConformanceCase("token statistics") { engine, dtype in
            [engine.tokenStatistics(engine.normal([2, 9, 35], dtype, offset: 1))]
        },
        ConformanceCase("rows of a table") { engine, dtype in
            let indices: [Int32] = [3, 0, 3, 5]
            return [
                engine.gatherRows(engine.normal([7, 20], dtype), indices: indices),
                engine.scatterRows(engine.normal([4, 20], dtype), indices: indices, rowCount: 7),
            ]
        },
    ]

    static let layouts: [ConformanceCase] = [
        ConformanceCase("join, cut, pad") { engine, dtype in
            let (a, b) = (engine.normal([2, 3, 5], dtype), engine.normal([2, 4, 5], dtype, seed: 1))
            return [
                engine.concatenate([a, b, a], axis: 1), engine.concatenate([a, a], axis: 2),
                engine.concatenate([a, a], axis: 0),
                engine.slice(b, axis: 1, range: 1..<3), engine.slice(b, axis: 2, range: 4..<5),
                engine.padded(a, axis: 1, before: 2, after: 1), engine.padded(a, axis: 0, before: 0, after: 1),
            ]
        },
        ConformanceCase("axes in another order") { engine, dtype in
            let x = engine.normal([2, 3, 4, 5], dtype)
            return [[0, 1, 2, 3], [0, 2, 1, 3], [3, 2, 1, 0], [1, 0, 3, 2], [0, 3, 1, 2], [2, 3, 0, 1]].map {
                engine.transpose(x, axes: $0)
            } + [engine.transpose(engine.normal([2, 3, 2, 3, 2, 5], dtype), axes: [0, 5, 1, 3, 2, 4])]
        },
        ConformanceCase("images") { engine, dtype in
            let x = engine.normal([2, 6, 4, 3], dtype)
            return [
                engine.upsampleNearest(x), engine.upsampleNearestBackward(x),
                engine.resizeBicubic(x, height: 9, width: 7),
                engine.resizeBicubic(x, height: 3, width: 4),
                engine.upsampleNearestBackward(engine.normal([1, 4, 4, 32], dtype)),
            ]
        },
    ]
}
