import TensorCore

/// A slowly following copy of parameters, used to evaluate and to publish.
///
/// After update number n (from 0), if (n + 1) mod interval = 0: average += (1 - d)(value - average),
/// d = min((1 + n) / (10 + n), decay).
///
/// - Source: showlab/Adv-GRPO ema.py. Differences: n counts parameter updates, not global steps (method.md 1.11).
public struct ExponentialMovingAverage: Sendable {
    /// Upper limit of d.
    public let decay: Double
    /// The average moves at every `interval`-th update.
    public let interval: Int
    /// The average, fp32.
    public private(set) var parameters: Parameters
    /// Updates seen.
    public private(set) var updateCount: Int

    /// An average that starts at these values; a snapshot's average with its count continues.
    public init(decay: Double, interval: Int, parameters: Parameters, updateCount: Int = 0) {
        precondition(interval >= 1 && decay >= 0 && decay < 1, "average: decay \(decay), interval \(interval)")
        self.decay = decay
        self.interval = interval
        self.parameters = parameters.detached
        self.updateCount = updateCount
    }

    /// d of update number n.
    public func decay(atUpdate n: Int) -> Double { min(Double(1 + n) / Double(10 + n), decay) }

    /// To be called after every update of the parameters.
    public mutating func follow(_ values: Parameters) {
        precondition(values.names == parameters.names, "average: other parameter names than at the start")
        let n = updateCount
        updateCount += 1
        guard (n + 1) % interval == 0 else { return }
        let rate = Float(1 - decay(atUpdate: n))
        parameters = parameters.mapped { name, average in
            guard let value = values[name] else { return average }
            return average + (value.detached - average) * rate
        }
    }
}
