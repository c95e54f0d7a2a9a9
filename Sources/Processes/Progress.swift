internal import Foundation
internal import Synchronization

/// Where a run stands.
public struct Progress: Codable, Sendable, Equatable {
    /// The epoch going on, from 1.
    public var epoch: Int
    /// Epochs that the run will have at most.
    public var epochCount: Int
    /// What goes on, for example `rolling out`.
    public var phase: String
    /// Share of the run that is done, by epochs or by time, whichever ends it first; 0...1.
    public var fraction: Double
    /// The last epoch's figures that are worth a glance, each as it is shown.
    public var figures: [String]
    /// Estimated time to the end.
    public var secondsLeft: Double?

    /// Makes a value.
    public init(
        epoch: Int, epochCount: Int, phase: String, fraction: Double, figures: [String] = [],
        secondsLeft: Double? = nil
    ) {
        self.epoch = epoch
        self.epochCount = epochCount
        self.phase = phase
        self.fraction = fraction
        self.figures = figures
        self.secondsLeft = secondsLeft
    }

    /// One line of text.
    ///
    /// - Parameter columns: width; nil leaves the bar out and cuts nothing.
    public func line(columns: Int?) -> String {
        var parts = ["epoch \(epoch)/\(epochCount)", phase] + figures
        if let secondsLeft, secondsLeft.isFinite { parts.append("\(Self.clock(secondsLeft)) left") }
        let text = parts.joined(separator: "  ")
        guard let columns else { return text }
        // A bar of 20 cells where it fits; the last column stays free, so that no terminal wraps.
        let done = Int((fraction.isFinite ? min(max(fraction, 0), 1) : 0) * 20)
        let bar = "[" + String(repeating: "=", count: done) + String(repeating: " ", count: 20 - done) + "]  "
        return String(((text.count + bar.count < columns ? bar : "") + text).prefix(max(1, columns - 1)))
    }

    private static func clock(_ seconds: Double) -> String {
        let total = Int(min(max(0, seconds), 1e9).rounded())
        let (hours, minutes, rest) = (total / 3600, total / 60 % 60, total % 60)
        return hours > 0
            ? String(format: "%d:%02d:%02d", hours, minutes, rest) : String(format: "%d:%02d", minutes, rest)
    }
}

/// Shows a run's progress: a redrawn bar for people, a line now and then for files, a marked line for a supervisor.
public final class ProgressLine: Sendable {
    private struct State {
        var last: ContinuousClock.Instant?
        var epoch: Int?
    }

    private enum Style { case bar, lines, marked }

    static let mark = "@progress "
    private let terminal: Terminal
    private let style: Style
    private let state = Mutex(State())

    /// A progress line on standard error; under a supervisor it is passed on to be shown there.
    public convenience init() {
        self.init(terminal: .standardError, supervised: Lifeline.isSupervised)
    }

    init(terminal: Terminal, supervised: Bool) {
        self.terminal = terminal
        style = supervised ? .marked : terminal.isInteractive ? .bar : .lines
    }

    /// Shows where the run stands; cheap enough to be called for every group.
    public func update(_ progress: Progress) {
        let now = ContinuousClock.now
        let isDue = state.withLock { state in
            let wait: Duration = style == .lines ? .seconds(10) : .milliseconds(100)
            // Files get one line an epoch at most every ten seconds.
            let due = state.last.map { now - $0 >= wait && (style != .lines || state.epoch != progress.epoch) } ?? true
            if due { (state.last, state.epoch) = (now, progress.epoch) }
            return due
        }
        guard isDue else { return }
        switch style {
        case .bar: terminal.show(status: progress.line(columns: terminal.columns))
        case .lines: terminal.print(progress.line(columns: nil))
        case .marked: terminal.print(Self.marked(progress))
        }
    }

    /// Removes the bar.
    public func finish() { terminal.show(status: "") }

    /// The line that a supervised role writes.
    static func marked(_ progress: Progress) -> String {
        // A value of plain finite fields always encodes; anything else shows as no progress.
        mark + ((try? JSONEncoder().encode(progress)).map { String(decoding: $0, as: UTF8.self) } ?? "")
    }

    /// The progress in a role's line, or nil if it is a log line.
    public static func progress(in line: String) -> Progress? {
        guard line.hasPrefix(mark) else { return nil }
        return try? JSONDecoder().decode(Progress.self, from: Data(line.dropFirst(mark.count).utf8))
    }
}
