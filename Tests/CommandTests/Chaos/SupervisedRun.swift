import LibC
import Testing

/// `advgrpo train`: its supervisor brings back what dies, over local sockets.
final class SupervisedRun: DisturbedRun {
    private let workspace: Workspace
    private var train: RunningProcess

    init(_ workspace: Workspace) throws {
        self.workspace = workspace
        train = try Self.begun(workspace)
    }

    private static func begun(_ workspace: Workspace) throws -> RunningProcess {
        try workspace.start("train", "settings.yaml", "--run-dir", "run", "--set", "cluster.leaseSeconds=1")
    }

    func processID(of role: String) -> Int32? { workspace.processID(of: role) }

    func revive(_ role: String) {}

    func killAll() async throws {
        train.signal(SIGKILL)
        _ = try await train.finish()
        try await resume()
    }

    func interrupt() async throws {
        try await expectOrderlyEnd(of: train)
        try await resume()
    }

    /// A run that was stopped before it had a folder to resume starts anew, as its user would start it, once the roles of
    /// the first try are gone: one of them may still be making the folder.
    private func resume() async throws {
        if !workspace.exists("run/settings.yaml") {
            try await eventually("the end of all roles") { self.workspace.processes.isEmpty ? true : nil }
        }
        train =
            workspace.exists("run/settings.yaml")
            ? try workspace.start("train", "--resume", "--run-dir", "run") : try Self.begun(workspace)
    }

    func finish() async throws -> Finished {
        let finished = try await train.finish()
        #expect(workspace.processes.isEmpty, "processes are left")
        return finished
    }
}
