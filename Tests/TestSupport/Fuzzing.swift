import LibC

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif
/// A reader of untrusted bytes, under fire.
///
/// Input `i` is entry `i` of the corpus, in turn, damaged by a generator that is seeded with `i`: every run reads the same inputs in
/// the same order, a longer run more of them. The number of the current input lies in the file `record`, so that it is known
/// after a crash; `ADVGRPO_FUZZ_REPLAY=NAME:NUMBER` reads that one input only.
public struct FuzzTarget {
    /// Name in reports.
    public let name: String
    private let corpus: [[UInt8]]
    private let finish: ([UInt8]) -> [UInt8]
    private let read: ([UInt8]) throws -> Void

    /// Makes a target.
    ///
    /// - Parameters:
    ///   - corpus: valid inputs, and those that once did harm.
    ///   - finish: mends what would stop the reader at its first glance, such as a length; called for every other input.
    ///   - read: returns when the input is accepted, throws the reader's own typed error when it is refused.
    public init(
        _ name: String, corpus: [[UInt8]], finish: @escaping ([UInt8]) -> [UInt8] = { $0 },
        read: @escaping ([UInt8]) throws -> Void
    ) {
        self.name = name
        self.corpus = corpus
        self.finish = finish
        self.read = read
    }

    /// What a run showed.
    public struct Report: Sendable, CustomStringConvertible {
        /// Inputs accepted.
        public var acceptedCount = 0
        /// Inputs refused, by type of error.
        public var refusals: [String: Int] = [:]
        /// The longest one input took.
        public var slowest = Duration.zero
        /// Which one.
        public var slowestNumber = 0
        /// Growth of resident memory from the first thousand inputs (or a tenth of the time) to the end, in bytes.
        public var growth = 0
        var name = ""

        /// Inputs refused.
        public var refusedCount: Int { refusals.values.reduce(0, +) }
        /// One line.
        public var description: String {
            "fuzz \(name): \(acceptedCount) accepted, \(refusedCount) refused, slowest \(slowest) (number \(slowestNumber)), "
                + "memory grew by \(growth >> 10) KiB"
        }
    }

    /// Seconds a test may spend on `share` of all fuzzing: `ADVGRPO_FUZZ_SECONDS` or 5 in total.
    public static func budget(share: Double) -> Duration {
        let total = ProcessInfo.processInfo.environment["ADVGRPO_FUZZ_SECONDS"].flatMap(Double.init) ?? 5
        return .seconds(total * share)
    }

    /// Input number `number`.
    public func input(_ number: Int) -> [UInt8] {
        let entry = corpus[number % corpus.count]
        // The corpus itself comes first.
        if number < corpus.count { return entry }
        var mutator = Mutator(seed: UInt64(number))
        let bytes = mutator.damaged(entry, others: corpus)
        return mutator.random.below(2) == 0 ? finish(bytes) : bytes
    }

    /// Reads inputs for a while.
    public func run(for time: Duration) -> Report {
        var report = Report()
        report.name = name
        if let replay = ProcessInfo.processInfo.environment["ADVGRPO_FUZZ_REPLAY"]?.split(separator: ":"),
            replay.count == 2
        {
            if replay[0] == name, let number = Int(replay[1]) { once(number, &report) }
            return report
        }
        let record = FileManager.default.temporaryDirectory.appendingPathComponent("advgrpo-fuzz-\(name)").path
        let descriptor = open(record, O_RDWR | O_CREAT | O_TRUNC, 0o600)
        defer {
            close(descriptor)
            unlink(record)
        }
        let begin = ContinuousClock.now
        var number = 0
        var before = 0
        while ContinuousClock.now - begin < time || number < 2 * corpus.count {
            let text = "\(name):\(number)\n"
            _ = text.utf8CString.withUnsafeBufferPointer { pwrite(descriptor, $0.baseAddress, text.utf8.count, 0) }
            once(number, &report)
            number += 1
            if number == 1000 || before == 0 && ContinuousClock.now - begin > time / 10 { before = residentBytes() }
        }
        report.growth = max(0, residentBytes() - before)
        return report
    }

    private func once(_ number: Int, _ report: inout Report) {
        let bytes = input(number)
        // An input without an end ends the process, and the record names it.
        alarm(60)
        defer { alarm(0) }
        // Of this thread's processor: what others do to the machine is not the reader's fault.
        let begin = processorTime()
        do {
            try read(bytes)
            report.acceptedCount += 1
        } catch {
            report.refusals["\(type(of: error))", default: 0] += 1
        }
        let time = processorTime() - begin
        if time > report.slowest {
            report.slowest = time
            report.slowestNumber = number
        }
    }
}

/// Processor time that the calling thread has used.
private func processorTime() -> Duration {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
}

/// Resident memory of this process, in bytes.
public func residentBytes() -> Int {
    // Total and resident pages first.
    guard let text = try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8) else { return 0 }
    let fields = text.split(separator: " ")
    return fields.count > 1 ? (Int(fields[1]) ?? 0) * sysconf(Int32(_SC_PAGESIZE)) : 0
}
