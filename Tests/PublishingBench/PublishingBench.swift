import Foundation
import Processes
import Protocol
import SafeTensors
import WeightsTransfer

/// The rounds and their table.
struct PublishingBench {
    static let receiverCount = 8
    /// As many tensors as an adapter of rank 32 of SD3.5-medium has matrices, of equal size.
    static let tensorCount = 384

    let byteCount: Int
    let rounds: Int

    func run() throws {
        let elementCount = byteCount / 4 / Self.tensorCount
        let weights = SharedBytes(count: elementCount * 4 * Self.tensorCount) { buffer in
            var state: UInt64 = 1
            buffer.withMemoryRebound(to: UInt64.self) { words in
                for index in words.indices {
                    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                    words[index] = state
                }
            }
        }
        let tensors = (0..<Self.tensorCount).map { index in
            (name: String(format: "blocks.%03d", index), dtype: SafeTensorsDataType.float32, shape: [elementCount])
        }
        var seconds: [String: [Double]] = [:]
        var digesting: [Double] = []
        for _ in 0..<rounds {
            let begin = ContinuousClock.now
            let published = try PublishedWeights(
                version: PolicyVersion(rawValue: 1), digest: WeightsDigest(bytes: [UInt8](repeating: 0, count: 32)),
                tensors: tensors, bytes: weights)
            let digestSeconds = (ContinuousClock.now - begin).seconds
            digesting.append(digestSeconds)
            seconds["product", default: []].append(digestSeconds + (try ProductSender.send(published)))
            let frames = Self.frames(published.manifest)
            for digests in [false, true] {
                seconds[digests ? "bare, digested" : "bare", default: []].append(
                    try BareSender.send(weights, frames: frames, digests: digests))
            }
        }
        let total = Double(weights.count * Self.receiverCount)
        print("\(weights.count) bytes to \(Self.receiverCount) receivers, rounds: \(rounds)")
        print(String(format: "digesting once, within product: %.3f s", Self.median(digesting)))
        for name in ["product", "bare", "bare, digested"] {
            let times = (seconds[name] ?? []).sorted()
            print(
                name.padding(toLength: 16, withPad: " ", startingAt: 0)
                    + String(
                        format: "median %.3f s [%.3f..%.3f], %.2f GB/s all together", Self.median(times),
                        times[0], times[times.count - 1], total / Self.median(times) / 1e9))
        }
        for name in ["bare", "bare, digested"] {
            // Round by round: the machine is not equally busy in all of them.
            let ratios = zip(seconds["product"] ?? [], seconds[name] ?? []).map { $0 / $1 }.sorted()
            print(
                String(
                    format: "product / \(name): %.2f [%.2f..%.2f]", Self.median(ratios), ratios[0],
                    ratios[ratios.count - 1]))
        }
    }

    /// Lengths of the product's messages: pieces that are asked for together.
    private static func frames(_ manifest: WeightsManifest) -> [Int] {
        manifest.pieces.reduce(into: []) { frames, piece in
            if let last = frames.last, last + piece.byteCount <= PiecesRequest.maximumByteCount {
                frames[frames.count - 1] += piece.byteCount
            } else {
                frames.append(piece.byteCount)
            }
        }
    }

    private static func median(_ values: [Double]) -> Double {
        let sorted = values.sorted()
        return (sorted[(sorted.count - 1) / 2] + sorted[sorted.count / 2]) / 2
    }
}

/// Receivers as processes of this program.
final class Receivers {
    private let processes: [Process]
    private let inputs: [Pipe]
    private let outputs: [Pipe]

    init(_ arguments: [String]) throws {
        var (processes, inputs, outputs): ([Process], [Pipe], [Pipe]) = ([], [], [])
        for _ in 0..<PublishingBench.receiverCount {
            let (process, input, output) = (Process(), Pipe(), Pipe())
            process.executableURL = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath()
            process.arguments = arguments
            process.standardInput = input
            process.standardOutput = output
            try process.run()
            processes.append(process)
            inputs.append(input)
            outputs.append(output)
        }
        (self.processes, self.inputs, self.outputs) = (processes, inputs, outputs)
    }

    /// Waits until each has written this word.
    func expect(_ word: String) {
        for output in outputs {
            let text = String(decoding: output.fileHandleForReading.availableData, as: UTF8.self)
            guard text == word + "\n" else { fatalError("a receiver said \"\(text)\" instead of \(word)") }
        }
    }

    func say(_ word: String) {
        for input in inputs { input.fileHandleForWriting.write(Data((word + "\n").utf8)) }
    }

    func end() {
        for process in processes { process.waitUntilExit() }
    }
}
