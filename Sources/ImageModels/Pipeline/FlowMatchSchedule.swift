public import NeuralNetworks

/// The noise levels of a rectified flow, as diffusers' `FlowMatchEulerDiscreteScheduler` without dynamic shifting.
///
/// shift(u) = s u / (1 + (s - 1) u). For N steps u runs evenly from shift(1) to shift(1 / T), which is then shifted a
/// second time, as in the reference; a final 0 is appended. The timestep of a level is T · sigma.
///
/// - Source: diffusers schedulers/scheduling_flow_match_euler_discrete.py, `__init__` and `set_timesteps`.
///   Differences: dynamic, Karras, exponential and beta schedules are refused.
public struct FlowMatchSchedule: Sendable, Equatable {
    /// T, and the factor between sigma and timestep.
    public let trainStepCount: Int
    /// s.
    public let shift: Double
    /// Where set, levels are stretched so that the last one before 0 has this value.
    public let terminal: Double?

    /// A schedule by its numbers; SD3's has shift 3.
    public init(trainStepCount: Int = 1000, shift: Double = 3, terminal: Double? = nil) {
        self.trainStepCount = trainStepCount
        self.shift = shift
        self.terminal = terminal
    }

    /// Reads `scheduler_config.json` in a folder.
    ///
    /// - Throws: `configuration`, naming key and range; `unsupported` for other schedules, among them those of other classes: their
    ///   files have other keys, their levels and their steps are others.
    public init(folder: String) throws(ModelError) {
        let path = folder + "/scheduler_config.json"
        let file = try ConfigurationFile.read(File.self, path: path)
        if let name = file._class_name, name != Self.className {
            throw ModelError(
                code: .unsupported, source: path,
                message:
                    "describes \(ConfigurationFile.abbreviated(name)), which samples in another way; replace it by "
                    + "\(Self.className)(shift=\(file.flow_shift ?? file.shift ?? 3.0)).save_pretrained(\"MODEL/scheduler\") "
                    + "of diffusers")
        }
        try ConfigurationFile.requireSupported(
            [
                "use_dynamic_shifting": (file.use_dynamic_shifting, [false]),
                "use_karras_sigmas": (file.use_karras_sigmas, [false]),
                "use_exponential_sigmas": (file.use_exponential_sigmas, [false]),
                "use_beta_sigmas": (file.use_beta_sigmas, [false]), "invert_sigmas": (file.invert_sigmas, [false]),
                "stochastic_sampling": (file.stochastic_sampling, [false]),
            ], path: path)
        // The method's steps tell the model 1000 sigma.
        try ConfigurationFile.requireSizes(["num_train_timesteps": file.num_train_timesteps ?? 1000], path: path)
        try ConfigurationFile.requireSupported(["num_train_timesteps": (file.num_train_timesteps, [1000])], path: path)
        try ConfigurationFile.requireNumbers(["shift": file.shift], in: Self.shifts, path: path)
        let terminal = file.shift_terminal == 0 ? nil : file.shift_terminal
        try ConfigurationFile.requireNumbers(["shift_terminal": terminal], in: Self.terminals, path: path)
        self.init(trainStepCount: file.num_train_timesteps ?? 1000, shift: file.shift ?? 1, terminal: terminal)
    }

    /// The class that is read.
    static let className = "FlowMatchEulerDiscreteScheduler"
    /// Shifts that keep the levels of a thousand steps apart in fp32.
    private static let shifts = 0.01...100.0
    private static let terminals = 0.001...0.99

    private struct File: Decodable {
        var _class_name: String?
        var num_train_timesteps: Int?
        var shift: Double?, flow_shift: Double?, shift_terminal: Double?
        var use_dynamic_shifting: Bool?, use_karras_sigmas: Bool?, use_exponential_sigmas: Bool?, use_beta_sigmas: Bool?
        var invert_sigmas: Bool?, stochastic_sampling: Bool?
    }

    /// The levels of `stepCount` steps, largest first, and 0: `stepCount + 1` values.
    ///
    /// - Throws: `unsupported` when these numbers give no levels that fall: two steps of one training step, or a single step that is to
    ///   be the first and the terminal one.
    public func sigmas(stepCount: Int) throws(ModelError) -> [Float] {
        precondition(stepCount >= 1, "sigmas: \(stepCount) steps")
        // The limits pass through fp32 in the reference's constructor, the rest is double until the end.
        let scale = Double(trainStepCount)
        let (first, last) = (scale * Double(shifted(1)), scale * Double(shifted(1 / Float(trainStepCount))))
        let step = stepCount == 1 ? 0 : (last - first) / Double(stepCount - 1)
        var levels = (0..<stepCount).map { index in
            let time = index == stepCount - 1 && stepCount > 1 ? last : Double(index) * step + first
            let u = time / scale
            return shift * u / (1 + (shift - 1) * u)
        }
        if let terminal {
            let factor = (1 - levels[stepCount - 1]) / (1 - terminal)
            levels = levels.map { 1 - (1 - $0) / factor }
        }
        let sigmas = levels.map { Float($0) } + [0]
        guard sigmas.allSatisfy(\.isFinite), zip(sigmas, sigmas.dropFirst()).allSatisfy({ $0 > $1 }) else {
            throw ModelError(
                code: .unsupported, source: "scheduler_config.json",
                message:
                    "shift \(shift)\(terminal.map { " and shift_terminal \($0)" } ?? "") give no falling noise levels for "
                    + "\(stepCount) step\(stepCount == 1 ? "" : "s"); choose another number of steps")
        }
        return sigmas
    }

    /// What the transformer is told at a level: T · sigma.
    public func timestep(_ sigma: Float) -> Float { sigma * Float(trainStepCount) }

    /// The noise level that the model was trained at where an unshifted schedule has `u`, 0...1.
    public func shifted(_ u: Float) -> Float { Float(shift) * u / (1 + Float(shift - 1) * u) }
}
