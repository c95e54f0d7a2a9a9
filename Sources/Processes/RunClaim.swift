package import Platform

/// The right to work in a run directory: one process supervises its roles, and one trains.
extension FileLock {
    /// Takes the lock or fails at once.
    ///
    /// - Parameters:
    ///   - path: the lock file; created, and removed in the end.
    ///   - subject: the run directory, as messages name it.
    /// - Throws: `runInUse`, naming the process that holds it.
    package static func held(_ path: String, subject: String) throws(RuntimeError) -> FileLock {
        let lock: FileLock?
        do throws(FileError) {
            lock = try FileLock(path)
        } catch {
            throw RuntimeError(error)
        }
        if let lock { return lock }
        throw RuntimeError(
            code: .runInUse, subject: subject,
            message: "another process works in this run directory"
                + (holder(of: path).map { " (process \($0))" } ?? ""),
            remedy: "wait for it, stop it, or choose another --run-dir")
    }
}

/// A supervisor's hold on a run directory, which also tells whether roles of an earlier supervisor are left.
///
/// `supervisor.lock` belongs to the supervisor alone. Every role inherits `roles.lock` from it: when a supervisor was killed, that
/// lock stays taken until the last of its roles has ended, as they do by themselves (`Lifeline`). Once it is free, whatever else
/// keeps a socket or the run directory is somebody else, and no waiting would help.
public final class RunClaim: Sendable {
    /// The folder of the run's logs.
    let logsFolder: String
    /// Inherited by every role.
    let roles: FileLock
    private let supervisor: FileLock

    /// Claims a run. Blocks the calling thread while roles of a supervisor that was killed are ending.
    ///
    /// - Parameters:
    ///   - logsFolder: the folder of the run's logs, for the lock files.
    ///   - patience: the longest wait for those roles.
    /// - Throws: `runInUse`, at once when another supervisor works with the same logs.
    public init(logsFolder: String, patience: Duration = .seconds(10)) throws(RuntimeError) {
        let subject = FileStore.parent(of: logsFolder)
        self.logsFolder = logsFolder
        supervisor = try FileLock.held(logsFolder + "/supervisor.lock", subject: subject)
        roles = try Self.rolesLock(logsFolder + "/roles.lock", subject: subject, patience: patience)
    }

    private static func rolesLock(_ path: String, subject: String, patience: Duration) throws(RuntimeError) -> FileLock
    {
        let end = ContinuousClock.now + patience
        while true {
            do throws(RuntimeError) {
                return try FileLock.held(path, subject: subject)
            } catch {
                guard error.code == .runInUse else { throw error }
                guard ContinuousClock.now < end else {
                    throw RuntimeError(
                        code: .runInUse, subject: subject,
                        message: "processes of a supervisor that was killed are still at work in this run directory",
                        remedy: "end them (`fuser \(path)` names them) or choose another --run-dir")
                }
                sleepBriefly(.milliseconds(50))
            }
        }
    }
}
