import TestSupport
import Testing

@testable import TensorCore

/// Holds the engine that computes nothing to the fast one: same shapes, same memory.
@Suite(.serialized) struct RehearsalTests {
    @Test("every operation gives the fast engine's shapes", arguments: ConformanceCases.all, DType.allCases)
    func shapes(_ operation: ConformanceCase, _ dtype: DType) {
        let expected = operation.run(OneDNNEngine.shared, dtype)
        let actual = operation.run(RehearsalEngine(trace: MemoryTrace()), dtype)
        #expect(expected.map(\.shape) == actual.map(\.shape) && expected.map(\.dtype) == actual.map(\.dtype))
    }

    @Test("every operation takes from the system what the fast engine takes", arguments: DType.allCases)
    func memory(_ dtype: DType) {
        for operation in ConformanceCases.all {
            let expected = systemBytes { operation.run(OneDNNEngine.shared, dtype) }
            let trace = MemoryTrace()
            _ = operation.run(RehearsalEngine(trace: trace), dtype)
            #expect(trace.poolByteCount == expected, "\(operation.name), \(dtype)")
        }
    }

    /// Two layers, forward and back, with an update: history, packed weights, moments.
    private static func step(_ engine: any Engine, _ dtype: DType, lanes: Lanes) throws {
        let weights = (0..<2).map { engine.zeros([256, 256], dtype: dtype).tracked() + Float(0.1) * Float($0) }
        var parameter = engine.zeros([256, 256])
        let moments = (engine.zeros([256, 256]), engine.zeros([256, 256]))
        let parts = lanes.map(5) { piece in
            let rows = piece == 4 ? 24 : 96
            let x = engine.zeros([rows, 256], dtype: dtype).tracked()
            let hidden = linear(x, weight: weights[0], activation: .geluTanh)
            let y = checkpointed { [linear(hidden, weight: weights[1]).activated(.silu)] }[0]
            return y.converted(to: .float32).sum().gradients()[x].map { $0.detached }
        }
        let gradient = engine.zeros([256, 256])
        parameter =
            engine.adam(
                parameter: parameter, gradient: gradient, moment1: moments.0, moment2: moments.1,
                AdamStep(learningRate: 1, number: 1)
            ).parameter
        withExtendedLifetime((parts, parameter)) {}
    }

    @Test("a training step takes what the fast engine takes", arguments: DType.allCases)
    func trainingStep(_ dtype: DType) throws {
        let expected = try systemBytes { try Self.step(OneDNNEngine.shared, dtype, lanes: Lanes(count: 1)) }
        let engine = RehearsalEngine(trace: MemoryTrace())
        try Self.step(engine, dtype, lanes: Lanes(count: 1, engine: engine))
        #expect(expected > 1 << 20)
        #expect(engine.trace.poolByteCount == expected)
    }

    @Test("pieces side by side take as much as their threads at the same point, and no more than there are pieces")
    func sideBySide() throws {
        func peak(lanes: Int, pieces: Int) throws -> Int {
            let engine = RehearsalEngine(trace: MemoryTrace())
            _ = Lanes(count: lanes, engine: engine).map(pieces) { _ in
                let block = engine.zeros([1 << 20])
                return withExtendedLifetime(block) { 0 }
            }
            return engine.trace.poolByteCount >> 20
        }
        #expect(try peak(lanes: 1, pieces: 5) == 4)
        #expect(try peak(lanes: 3, pieces: 5) == 12)
        #expect(try peak(lanes: 3, pieces: 2) == 8)
    }

    @Test("mapped weights count when they are read, and not after they were converted")
    func mapped() throws {
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: 8 << 20, alignment: 64)
        defer { bytes.deallocate() }
        let engine = RehearsalEngine(trace: MemoryTrace())
        let weight = engine.tensor(
            mapped: UnsafeRawBufferPointer(bytes), owner: engine, shape: [2048, 1024], dtype: .float32)
        let before = engine.trace.peak.byteCount
        let x = engine.zeros([1, 1024])
        _ = engine.linear(x, weight: weight, bias: nil, activation: nil)
        let read = engine.trace.peak
        #expect(before == 0 && read.byteCounts[.weights] == 8 << 20 && read.mappedByteCount == 8 << 20)
        #expect(read.byteCount < 9 << 20, "a mapped weight is not packed")
        // Converting gives the pages back: 4 MiB of copy take the place of 8.
        let half = engine.convert(weight, to: .bfloat16)
        #expect(engine.trace.peak.byteCount < 13 << 20)
        withExtendedLifetime(half) {}
    }

    @Test("memory is named by what it is for, and the kinds add up")
    func kinds() {
        let trace = MemoryTrace()
        let engine = RehearsalEngine(trace: trace)
        let weight = trace.noting(.weights) { engine.zeros([1 << 20]) }
        let kept = engine.noting(.caches) { engine.zeros([1 << 19]) }
        let message = trace.holding(1 << 20, .training)
        do {
            let passing = engine.zeros([1 << 20])
            withExtendedLifetime(passing) {}
        }
        let peak = trace.peak
        #expect(peak.byteCounts[.weights] == 4 << 20)
        #expect(peak.byteCounts[.caches] == 2 << 20)
        #expect(peak.byteCounts[.training] == 1 << 20)
        #expect(peak.byteCounts[.activations] ?? 0 >= 4 << 20)
        #expect(OneDNNEngine.shared.noting(.caches) { 7 } == 7, "other engines take no note")
        withExtendedLifetime((weight, kept, message)) {}
    }

    /// What the pool asks from the system during `body`, which finds it empty.
    private func systemBytes<Result>(_ body: () throws -> Result) rethrows -> Int {
        HostBufferPool.trim()
        let before = HostBufferPool.systemByteCount
        let result = try body()
        return withExtendedLifetime(result) { HostBufferPool.systemByteCount - before }
    }
}
