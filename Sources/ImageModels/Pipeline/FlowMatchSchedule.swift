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
    /// - Throws: `configuration`, `unsupported`.
    public init(folder: String) throws(ModelError) {
        let path = folder + "/scheduler_config.json"
        let file = try ConfigurationFile.read(File.self, path: path)
        let refused: [(String, Bool?)] = [
            ("use_dynamic_shifting", file.use_dynamic_shifting), ("use_karras_sigmas", file.use_karras_sigmas),
            ("use_exponential_sigmas", file.use_exponential_sigmas), ("use_beta_sigmas", file.use_beta_sigmas),
            ("invert_sigmas", file.invert_sigmas), ("stochastic_sampling", file.stochastic_sampling),
        ]
        for (name, value) in refused where value == true {
            throw ModelError(code: .unsupported, source: path, message: "\(name) is not supported")
        }
        try ConfigurationFile.requireSizes(["num_train_timesteps": file.num_train_timesteps ?? 1000], path: path)
        self.init(
            trainStepCount: file.num_train_timesteps ?? 1000, shift: file.shift ?? 1,
            terminal: file.shift_terminal == 0 ? nil : file.shift_terminal)
    }

    private struct File: Decodable {
        var num_train_timesteps: Int?
        var shift: Double?, shift_terminal: Double?
        var use_dynamic_shifting: Bool?, use_karras_sigmas: Bool?, use_exponential_sigmas: Bool?, use_beta_sigmas: Bool?
        var invert_sigmas: Bool?, stochastic_sampling: Bool?
    }

    /// The levels of `stepCount` steps, largest first, and 0: `stepCount + 1` values.
    public func sigmas(stepCount: Int) -> [Float] {
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
        return levels.map { Float($0) } + [0]
    }

    /// What the transformer is told at a level: T · sigma.
    public func timestep(_ sigma: Float) -> Float { sigma * Float(trainStepCount) }

    private func shifted(_ u: Float) -> Float { Float(shift) * u / (1 + Float(shift - 1) * u) }
}
