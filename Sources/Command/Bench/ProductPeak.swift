import Processes
import TensorCore

/// What the machine can do: oneDNN's fastest matrix product with packed weights, each thread on products of its own.
enum ProductPeak {
    /// Rows, inner size and columns: sizes whose operands stay in a core's cache, among them those of transformers.
    private static let shapes = [(1024, 512, 512), (1024, 1024, 1024), (512, 1024, 2048)]
    private static let tries = 6

    /// Operations a second over all lanes, the best of several tries.
    static func measure(_ dtype: DType, lanes: Lanes) throws -> Double {
        let engine = OneDNNEngine.shared
        var best = 0.0
        for (rows, inner, columns) in shapes {
            let weight = engine.tensor(
                Philox(seed: 1, purpose: .evaluation).normals(columns * inner), shape: [columns, inner], dtype: dtype)
            let inputs = (0..<lanes.count).map { lane in
                engine.tensor(
                    Philox(seed: 1, purpose: .evaluation, lane + 1).normals(rows * inner), shape: [rows, inner],
                    dtype: dtype)
            }
            let operations = 2 * Double(rows * inner * columns)
            // About 20 ms a lane.
            let count = max(1, Int(3e9 / operations))
            for _ in 0..<tries {
                let begin = ContinuousClock.now
                _ = lanes.map(lanes.count) { lane in
                    for _ in 0..<count {
                        _ = engine.linear(inputs[lane], weight: weight, bias: nil, activation: nil)
                    }
                }
                let seconds = (ContinuousClock.now - begin).seconds
                best = max(best, operations * Double(count * lanes.count) / seconds)
            }
        }
        return best
    }
}
