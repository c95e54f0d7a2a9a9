internal import LibC
public import Logging
internal import Platform

/// The process's log: single lines to standard error and, where asked, to a file.
///
/// A role that a supervisor started writes to standard error only; the supervisor keeps the file.
public enum Logs {
    /// Sets the log up; to be called once, by the executable.
    ///
    /// - Parameters:
    ///   - level: the lowest level that is written; the environment variable `ADVGRPO_LOG` overrides it.
    ///   - path: of a file that is also appended to, unless a supervisor captures standard error.
    /// - Throws: what the disk says about the file.
    public static func bootstrap(level: Logger.Level = .info, file path: String? = nil) throws(RuntimeError) {
        let environment = getenv("ADVGRPO_LOG").flatMap { Logger.Level(rawValue: String(cString: $0)) }
        var file: LogFile?
        if let path, !Lifeline.isSupervised { file = try LogFile(path: path) }
        let sink = LineLogHandler.Sink(file: file)
        let lowest = environment ?? level
        LoggingSystem.bootstrap { label in LineLogHandler(label: label, logLevel: lowest, sink: sink) }
    }
}

/// A log file that several threads append to, one write a line.
final class LogFile: Sendable {
    private let file: OpenFile

    init(path: String) throws(RuntimeError) { file = try OpenFile(path, .append) }

    /// Appends a line; a log that cannot be written must not end the run, so errors are dropped.
    func append(_ line: String) { try? file.write(Array("\(line)\n".utf8)) }
}

/// Writes `2026-11-24T21:55:01.123Z info learner: message key=value` and nothing else.
struct LineLogHandler: LogHandler {
    /// Where lines go.
    struct Sink: Sendable {
        var file: LogFile?
        var terminal = Terminal.standardError

        func write(_ line: String) {
            terminal.print(line)
            file?.append(line)
        }
    }

    let label: String
    var logLevel: Logger.Level
    var metadata: Logger.Metadata = [:]
    var sink: Sink

    init(label: String, logLevel: Logger.Level, sink: Sink) {
        self.label = label
        self.logLevel = logLevel
        self.sink = sink
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        var metadata = self.metadata
        if let own = event.metadata { metadata.merge(own) { _, new in new } }
        if let error = event.error { metadata["error"] = "\(error)" }
        sink.write(
            Self.line(time: Self.now(), level: event.level, label: label, message: "\(event.message)", metadata))
    }

    /// One line: line breaks in the message and in values are escaped.
    static func line(
        time: String, level: Logger.Level, label: String, message: String, _ metadata: Logger.Metadata
    ) -> String {
        let pairs = metadata.sorted { $0.key < $1.key }.map { " \($0.key)=\(quoted("\($0.value)"))" }
        return "\(time) \(level) \(label): \(singleLine(message))" + pairs.joined()
    }

    private static func quoted(_ value: String) -> String {
        let plain = !value.isEmpty && value.unicodeScalars.allSatisfy { $0 > " " && $0 != "\"" && $0 != "=" }
        if plain { return value }
        return "\"" + singleLine(value).replacing("\"", with: "\\\"") + "\""
    }

    private static func singleLine(_ text: String) -> String {
        text.replacing("\r\n", with: "\\n").replacing("\n", with: "\\n").replacing("\r", with: "\\r")
    }

    /// UTC with milliseconds.
    static func now() -> String {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        var parts = tm()
        gmtime_r(&time.tv_sec, &parts)
        func digits(_ value: some BinaryInteger, _ count: Int) -> String {
            let text = String(value)
            return String(repeating: "0", count: max(0, count - text.count)) + text
        }
        let date = [digits(parts.tm_year + 1900, 4), digits(parts.tm_mon + 1, 2), digits(parts.tm_mday, 2)]
        let clock = [digits(parts.tm_hour, 2), digits(parts.tm_min, 2), digits(parts.tm_sec, 2)]
        return date.joined(separator: "-") + "T" + clock.joined(separator: ":")
            + ".\(digits(time.tv_nsec / 1_000_000, 3))Z"
    }
}
