import Synchronization
import TestSupport
import Testing

@testable import TensorCore

/// Gradient checkpointing on small graphs; the models' tests hold whole blocks to the bit.
@Suite struct CheckpointTests {
    /// Two outputs of three tracked tensors, one of them used twice and one from outside the segment's arguments.
    private func pair(_ x: Tensor, _ weight: Tensor, _ shared: Tensor) -> [Tensor] {
        let hidden = linear(x, weight: weight).activated(.silu) + shared
        return [hidden * shared, hidden.softmax(), shared]
    }

    /// A scalar through two segments that share a tensor; nil where a leaf gets no gradient.
    private func gradients(
        _ engine: any Engine, segment: (@escaping @Sendable () -> [Tensor]) -> [Tensor]
    ) -> [[Float]?] {
        let x = engine.normal([5, 6]).tracked()
        let weights = (1...2).map { engine.normal([6, 6], seed: $0).tracked() }
        let shared = engine.normal([5, 6], seed: 3).tracked()
        let unused = engine.normal([5, 6], seed: 4).tracked()
        let first = segment { pair(x, weights[0], shared) }
        let second = segment { pair(first[0] + first[1], weights[1], first[2]) }
        let gradients = (second[0] * x).sum().gradients()
        return ([x, shared, unused] + weights).map { gradients[$0]?.values }
    }

    @Test("checkpointed segments give the same gradients, bit for bit, also through shared tensors and unread outputs")
    func sameBits() {
        for engine in testEngines {
            let plain = gradients(engine) { $0() }
            #expect(plain[2] == nil && plain.count { $0 != nil } == 4)
            #expect(gradients(engine) { checkpointed($0) } == plain)
        }
    }

    @Test("a segment within a segment gives the same bits too")
    func nested() {
        let engine = OneDNNEngine.shared
        let plain = gradients(engine) { $0() }
        #expect(gradients(engine) { body in checkpointed { checkpointed(body) } } == plain)
    }

    @Test("a segment is computed once forward and once backward, and keeps nothing in between")
    func keepsNothing() {
        final class Log: Sendable {
            let runs = Mutex(0)
            let buffer = Mutex<Weak?>(nil)
        }
        struct Weak: Sendable { weak var buffer: (any TensorBuffer)? }
        let engine = OneDNNEngine.shared
        let log = Log()
        let x = engine.normal([4, 4]).tracked()
        func loss(_ segment: (@escaping @Sendable () -> [Tensor]) -> [Tensor]) -> Tensor {
            segment {
                let middle = x.activated(.silu)
                log.runs.withLock { $0 += 1 }
                log.buffer.withLock { $0 = Weak(buffer: middle.buffer) }
                return [middle * middle]
            }[0].sum()
        }
        let plain = loss { $0() }
        #expect(log.buffer.withLock { $0?.buffer } != nil, "without checkpointing the history keeps it")
        let expected = plain.gradients()[x]?.values
        let result = loss { checkpointed($0) }
        #expect(log.buffer.withLock { $0?.buffer } == nil)
        #expect(log.runs.withLock { $0 } == 2)
        #expect(result.gradients()[x]?.values == expected)
        #expect(log.runs.withLock { $0 } == 3)
    }

    @Test("what depends on nothing tracked, or is only passed on, comes back as it is")
    func untracked() {
        let engine = OneDNNEngine.shared
        let (x, y) = (engine.normal([3]), engine.normal([3], seed: 1).tracked())
        let outputs = checkpointed { [x * 2, y, y * 2] }
        #expect(!outputs[0].isTracked && outputs[2].isTracked)
        #expect(outputs[1].node === y.node)
    }
}
