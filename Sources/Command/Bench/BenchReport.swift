import AdvGRPO
import ComputeRoles
import Configuration
import Foundation
import Processes
import TensorCore

/// What `bench` prints. The keys of peer_bench.py come first, with the same meaning.
struct BenchReport: Encodable {
    var peer = "advgrpo"
    var models: String
    var dtype: String
    var threads: Int
    var images: Int
    /// Fastest repetition of each phase.
    var seconds: [String: Double]
    /// Their sum.
    var epoch: Double

    /// Operations of each phase; see `OperationCounts`.
    var flops: [String: Int]
    var gigaflopsPerSecond: [String: Double]
    /// Of `productPeak` in the phase's precision.
    var shareOfPeak: [String: Double]
    /// oneDNN's fastest product, GFLOP/s, by precision.
    var productPeak: [String: Double]
    /// Processor time of the fastest repetition, all threads together.
    var processorSeconds: [String: Double]
    /// How often the last repetition asked the system for tensor memory.
    var systemAllocations: [String: Int]
    /// Loading all models.
    var loadSeconds: Double
    var peakMemoryBytes: Int
    /// Processors that other processes kept busy; null where unknown. Above 0.1 the times are not to be quoted.
    var foreignCores: Double?
    var processor: String
    var engine: String
    var work: Work

    /// What both sides must have in common.
    struct Work: Encodable {
        var steps: Int, guidance: Double, noiseLevel: Double, window: Int
        var imageSide: Int, imageTokens: Int, textTokens: Int
        var discriminatorSteps: Int, referenceImages: Int, patches: Int, loraRank: Int
        /// Ours alone: images that one thread computes at once.
        var chunk: Int
    }

    /// The fastest of a phase's repetitions, and what the last one asked of the system: the first fill the pool.
    struct Measurement {
        private(set) var seconds: Double
        private(set) var processorSeconds: Double
        let systemAllocations: Int

        /// Does the work and measures it.
        init(_ body: () throws -> Void) rethrows {
            let (begin, use) = (ContinuousClock.now, ProcessorUse.now)
            let allocations = HostBufferPool.systemAllocationCount
            try body()
            seconds = (ContinuousClock.now - begin).seconds
            processorSeconds = ProcessorUse.now.own - use.own
            systemAllocations = HostBufferPool.systemAllocationCount - allocations
        }

        /// This repetition among those before it.
        func fastest(since earlier: Measurement?) -> Measurement {
            guard let earlier, earlier.seconds <= seconds else { return self }
            var fastest = self
            (fastest.seconds, fastest.processorSeconds) = (earlier.seconds, earlier.processorSeconds)
            return fastest
        }
    }

    /// How the work was done.
    struct Manner {
        var precision: NumericPrecision
        /// Images that one thread computes at once.
        var chunk: Int
        var lanes: Lanes
    }

    /// What was measured besides the phases.
    struct Surroundings {
        var loadSeconds: Double
        var peakMemory: Int
        var foreignCores: Double?
    }

    init(
        _ work: BenchWork, _ manner: Manner, engine: any Engine, best: [BenchPhase: Measurement],
        _ surroundings: Surroundings
    ) throws {
        let (precision, lanes) = (manner.precision, manner.lanes)
        func table<Value>(_ value: (BenchPhase, Measurement) -> Value) -> [String: Value] {
            Dictionary(uniqueKeysWithValues: best.map { ($0.rawValue, value($0, $1)) })
        }
        models = URL(fileURLWithPath: work.models).lastPathComponent
        dtype = precision.rawValue
        threads = lanes.count
        images = work.images
        seconds = table { $1.seconds.rounded(to: 5) }
        epoch = best.values.reduce(0) { $0 + $1.seconds }.rounded(to: 5)
        flops = table { phase, _ in work.operations(phase) }
        gigaflopsPerSecond = table { phase, measured in
            (Double(work.operations(phase)) / measured.seconds / 1e9).rounded(to: 1)
        }
        var peaks: [NumericPrecision: Double] = [:]
        for precision in Set([precision, .fp32]) {
            peaks[precision] = try ProductPeak.measure(precision.dtype, lanes: lanes)
        }
        productPeak = Dictionary(uniqueKeysWithValues: peaks.map { ($0.rawValue, ($1 / 1e9).rounded(to: 1)) })
        shareOfPeak = table { phase, measured in
            // Decoder and discriminator compute in fp32 always.
            let peak = peaks[[.decode, .discriminator].contains(phase) ? .fp32 : precision] ?? .infinity
            return (Double(work.operations(phase)) / measured.seconds / peak).rounded(to: 3)
        }
        processorSeconds = table { $1.processorSeconds.rounded(to: 5) }
        systemAllocations = table { $1.systemAllocations }
        loadSeconds = surroundings.loadSeconds.rounded(to: 3)
        peakMemoryBytes = surroundings.peakMemory
        foreignCores = surroundings.foreignCores?.rounded(to: 2)
        processor = Processor.description
        self.engine = "\(engine.name): \(engine.kernel)"
        self.work = Work(
            steps: work.steps, guidance: work.guidance, noiseLevel: work.noiseLevel, window: work.window,
            imageSide: work.imageSide, imageTokens: work.imageTokens, textTokens: work.textTokens,
            discriminatorSteps: work.discriminatorSteps, referenceImages: work.images, patches: work.patches,
            loraRank: work.loraRank, chunk: manner.chunk)
    }

    /// The report as a table.
    var text: String {
        let peaks = productPeak.sorted { $0.key > $1.key }.map { "\($0) \($1) GFLOP/s" }.joined(separator: ", ")
        var lines = [
            "\(models), \(dtype), \(threads) threads, \(images) images; \(engine)", processor,
            "fastest product: \(peaks)", "phase           seconds   GFLOP/s   of peak",
        ]
        for phase in BenchPhase.allCases.map(\.rawValue) {
            guard let time = seconds[phase], let rate = gigaflopsPerSecond[phase], let share = shareOfPeak[phase] else {
                continue
            }
            let name = phase.padding(toLength: 14, withPad: " ", startingAt: 0)
            lines.append(name + String(format: " %8.4f %9.1f %8.1f%%", time, rate, 100 * share))
        }
        lines.append("epoch         " + String(format: " %8.4f", epoch))
        lines.append("peak memory \(peakMemoryBytes >> 20) MiB, models loaded in \(loadSeconds) s")
        if let foreignCores, foreignCores > 0.1 {
            lines.append("others kept \(foreignCores) processors busy: do not quote these times")
        }
        return lines.joined(separator: "\n")
    }
}

extension Double {
    /// Rounded to decimal places.
    fileprivate func rounded(to places: Int) -> Double {
        let unit = (0..<places).reduce(1.0) { unit, _ in unit * 10 }
        return (self * unit).rounded() / unit
    }
}
