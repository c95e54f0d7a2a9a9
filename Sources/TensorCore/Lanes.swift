import Platform
import Synchronization

/// Threads that share a computation sample by sample.
///
/// Pieces are taken in order by whichever thread is free, and results come back in index order: what is computed depends on
/// the pieces alone, never on how many threads there are. One piece runs on one thread; engines do not start threads.
public final class Lanes: Sendable {
    /// Threads used, the calling one included.
    public let count: Int
    private let trace: MemoryTrace?

    /// - Parameters:
    ///   - count: at least 1.
    ///   - engine: what the pieces run on, where that may be a rehearsal: its pieces run one after the other, and their memory is
    ///     noted as that of pieces side by side.
    public init(count: Int, engine: (any Engine)? = nil) {
        precondition(count >= 1, "Lanes: \(count) threads")
        self.count = count
        trace = (engine as? RehearsalEngine)?.trace
    }

    /// The results of `body` for each index in `0..<pieces`, in order. Blocks the calling thread until all are done.
    ///
    /// - Throws: the error of the lowest-numbered piece that failed.
    public func map<Result: Sendable, Failure: Error>(
        _ pieces: Int, _ body: @escaping @Sendable (Int) throws(Failure) -> Result
    ) throws(Failure) -> [Result] {
        if count == 1 || pieces <= 1 { return try (0..<pieces).map(body) }
        if let trace { return try trace.sideBySide(lanes: count, pieces: pieces, body) }
        let work = Work(pieces: pieces, body: body)
        let threads = (1..<min(count, pieces)).map { _ in OSThread.start(nil) { work.run() } }
        work.run()
        for thread in threads { thread.join() }
        return try work.results()
    }
}

private final class Work<Result: Sendable, Failure: Error>: Sendable {
    private let next = Atomic<Int>(0)
    private let pieces: Int
    private let body: @Sendable (Int) throws(Failure) -> Result
    private let done: Mutex<[Swift.Result<Result, Failure>?]>

    init(pieces: Int, body: @escaping @Sendable (Int) throws(Failure) -> Result) {
        self.pieces = pieces
        self.body = body
        done = Mutex(Array(repeating: nil, count: pieces))
    }

    func run() {
        while true {
            let index = next.wrappingAdd(1, ordering: .relaxed).oldValue
            guard index < pieces else { return }
            let result = Swift.Result { () throws(Failure) in try body(index) }
            done.withLock { $0[index] = result }
        }
    }

    func results() throws(Failure) -> [Result] {
        var results: [Result] = []
        for slot in done.withLock({ $0 }) {
            guard let slot else { preconditionFailure("Lanes: a piece did not run") }
            results.append(try slot.get())
        }
        return results
    }
}
