internal import LibC
internal import Platform
internal import Synchronization

/// Standard error, shared by log lines and one line that is redrawn in place.
public final class Terminal: Sendable {
    /// The process's standard error.
    public static let standardError = Terminal(descriptor: 2)

    private let descriptor: Int32
    /// Whether somebody looks at it: otherwise nothing is redrawn.
    public let isInteractive: Bool
    private let status = Mutex<String>("")

    init(descriptor: Int32) {
        self.descriptor = descriptor
        isInteractive = isatty(descriptor) == 1
    }

    /// Characters that fit on a line.
    public var columns: Int {
        var size = winsize()
        guard ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return 80 }
        return Int(size.ws_col)
    }

    /// Writes a whole line; the redrawn line stays below it.
    public func print(_ line: String) {
        status.withLock { put($0.isEmpty ? "\(line)\n" : "\r\u{1B}[K\(line)\n\($0)") }
    }

    /// Redraws the line in place; empty removes it. Does nothing where nobody looks.
    public func show(status line: String) {
        guard isInteractive else { return }
        status.withLock { status in
            put("\r\u{1B}[K\(line)")
            status = line
        }
    }

    /// One write a line, so that lines of several threads never mix. What cannot be written is lost: there is no other
    /// place to complain.
    private func put(_ text: String) {
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { bytes in retrying { write(descriptor, bytes.baseAddress, bytes.count) } }
            if count <= 0 { return }
            rest = rest.dropFirst(count)
        }
    }
}
