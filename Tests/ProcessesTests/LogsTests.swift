import Foundation
import Logging
import TestSupport
import Testing

@testable import Processes

@Suite("Logs and progress")
struct LogsTests {
    @Test("a log line is one line, with sorted and quoted metadata")
    func line() {
        let line = LineLogHandler.line(
            time: "T", level: .warning, label: "learner", message: "two\nlines",
            ["b": "x y", "a": "1", "c": "say \"no\"", "d": ""])
        #expect(line == #"T warning learner: two\nlines a=1 b="x y" c="say \"no\"" d="""#)
    }

    @Test("the time is UTC with milliseconds")
    func time() throws {
        let text = LineLogHandler.now()
        let format = Date.ISO8601FormatStyle(includingFractionalSeconds: true)
        #expect(abs(try format.parse(text).timeIntervalSinceNow) < 60)
        #expect(text.count == 24)
    }

    @Test("a logger writes to standard error and to its file, metadata of the event winning")
    func logger() throws {
        let folder = try TemporaryFolder()
        let pipe = Pipe()
        let sink = LineLogHandler.Sink(
            file: try LogFile(path: folder.path + "/a.log"),
            terminal: Terminal(descriptor: pipe.fileHandleForWriting.fileDescriptor))
        var logger = Logger(label: "role") { LineLogHandler(label: $0, logLevel: .info, sink: sink) }
        logger[metadataKey: "group"] = "1/2"
        logger.info("hello", metadata: ["group": "3/4"])
        logger.debug("unseen")
        try pipe.fileHandleForWriting.close()
        let written = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        #expect(written.hasSuffix(" info role: hello group=3/4\n"))
        #expect(try folder.text("a.log") == written)
    }

    private let progress = Progress(
        epoch: 12, epochCount: 100, phase: "rolling out", fraction: 0.5,
        figures: ["8.2 images/s", "reward 0.410", "D accuracy 83%"], secondsLeft: 250)

    @Test("the progress line names everything and fits the terminal")
    func progressLine() {
        let text = "epoch 12/100  rolling out  8.2 images/s  reward 0.410  D accuracy 83%  4:10 left"
        #expect(progress.line(columns: nil) == text)
        #expect(progress.line(columns: 120) == "[==========          ]  " + text)
        #expect(progress.line(columns: 40) == text.prefix(39))
        let bare = Progress(epoch: 1, epochCount: 2, phase: "starting", fraction: .nan)
        #expect(bare.line(columns: nil) == "epoch 1/2  starting")
        #expect(bare.line(columns: 80).hasPrefix("[                    ]"))
    }

    @Test("a supervised role's progress travels as a marked line")
    func marked() {
        #expect(ProgressLine.progress(in: ProgressLine.marked(progress)) == progress)
        #expect(ProgressLine.progress(in: "info learner: hello") == nil)
        #expect(ProgressLine.progress(in: "@progress nonsense") == nil)
    }

    @Test("files get a line an epoch at most, no control characters")
    func plain() throws {
        let pipe = Pipe()
        let line = ProgressLine(
            terminal: Terminal(descriptor: pipe.fileHandleForWriting.fileDescriptor), supervised: false)
        line.update(progress)
        line.update(progress)
        line.finish()
        try pipe.fileHandleForWriting.close()
        let written = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        #expect(written == progress.line(columns: nil) + "\n")
    }

    @Test("a shutdown signal is given once and reaches everybody who waits")
    func shutdown() async {
        let shutdown = ShutdownSignal()
        let waiting = Task { await shutdown.wait() }
        let cancelled = Task { await shutdown.wait() }
        cancelled.cancel()
        await cancelled.value
        #expect(!shutdown.isRequested)
        await confirmation(expectedCount: 2) { confirmed in
            shutdown.onRequest {
                #expect($0 == "first"); confirmed()
            }
            shutdown.request("first")
            shutdown.request("second")
            shutdown.onRequest { _ in confirmed() }
        }
        await waiting.value
        await shutdown.wait()
        #expect(shutdown.reason == "first")
    }
}
