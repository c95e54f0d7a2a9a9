import Foundation
import Processes

/// Processor time at a moment: of this process, and of the whole machine where the system tells.
struct ProcessorUse {
    private let moment = ContinuousClock.now
    /// Seconds that this process has computed, all threads together.
    let own: Double
    /// Seconds that all processors have been busy; nil where the system does not say.
    private let all: Double?

    /// Now.
    static var now: ProcessorUse { ProcessorUse() }

    private init() {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        own = Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
        // "cpu  user nice system idle iowait irq softirq steal ...", in ticks.
        let text = FileManager.default.contents(atPath: "/proc/stat").map { String(decoding: $0, as: UTF8.self) } ?? ""
        let fields = text.prefix { $0 != "\n" }.split(separator: " ").dropFirst().compactMap { Double($0) }
        let ticksPerSecond = Double(sysconf(Int32(_SC_CLK_TCK)))
        all =
            fields.count >= 8
            ? (fields[0..<3].reduce(0, +) + fields[5..<8].reduce(0, +)) / ticksPerSecond : nil
    }

    /// Processors that others kept busy since an earlier moment, on average; nil where the system does not say. A figure
    /// above 0.1 says that times measured meanwhile are not to be quoted.
    func foreignCores(since earlier: ProcessorUse) -> Double? {
        guard let all, let before = earlier.all else { return nil }
        let wall = (moment - earlier.moment).seconds
        return max(0, (all - before) - (own - earlier.own)) / wall
    }
}
