internal import LibC
internal import Platform

/// The pipe by which a role notices that its supervisor is gone, however that one ended.
///
/// The supervisor holds the writing end and never writes; the kernel closes it with the supervisor, and the role reads
/// the end of the file.
public enum Lifeline {
    /// Names the descriptor of the reading end in a role's environment.
    static let variable = "ADVGRPO_LIFELINE"

    /// The reason of the shutdown that follows.
    public static let goneReason = "the supervisor is gone"

    /// Whether a supervisor started this process.
    public static var isSupervised: Bool { getenv(variable) != nil }

    /// Ends this process when its supervisor is gone: an orderly stop first, and after a while the end of the process.
    /// Does nothing in a process that was started by hand.
    ///
    /// - Parameters:
    ///   - shutdown: asked to stop when the supervisor is gone.
    ///   - limit: time for the orderly stop. Short: a run survives any death, and who starts it again waits for this one's end
    ///     (`RunClaim`).
    public static func bind(to shutdown: ShutdownSignal, limit: Duration = .seconds(2)) {
        guard let text = getenv(variable), let descriptor = Int32(String(cString: text)) else { return }
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        OSThread.start("lifeline") {
            var byte: UInt8 = 0
            while retrying({ read(descriptor, &byte, 1) }) > 0 {}
            shutdown.request(goneReason)
            usleep(UInt32(limit.seconds * 1e6))
            _exit(1)
        }
    }
}
