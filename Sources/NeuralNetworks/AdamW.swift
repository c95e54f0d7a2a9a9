import TensorCore

/// Adam with decoupled weight decay (Loshchilov and Hutter 2019), as torch.optim.AdamW; without decay it is torch's Adam.
public struct AdamW: Sendable {
    /// Step sizes that stay the same over a run.
    public struct Settings: Sendable, Equatable {
        /// Learning rate.
        public var learningRate: Double
        /// Decay rates of the first and second moment.
        public var beta1: Double, beta2: Double
        /// Added to the root of the second moment.
        public var epsilon: Double
        /// Decoupled weight decay.
        public var weightDecay: Double

        /// All step sizes.
        public init(
            learningRate: Double, beta1: Double = 0.9, beta2: Double = 0.999, epsilon: Double = 1e-8,
            weightDecay: Double = 0
        ) {
            self.learningRate = learningRate
            self.beta1 = beta1
            self.beta2 = beta2
            self.epsilon = epsilon
            self.weightDecay = weightDecay
        }
    }

    /// Step sizes.
    public var settings: Settings
    /// Updates made so far.
    public private(set) var updateCount: Int
    /// Averages of the gradients, by parameter.
    public private(set) var firstMoment: Parameters
    /// Averages of the squared gradients, by parameter.
    public private(set) var secondMoment: Parameters

    /// An optimiser that has seen nothing.
    public init(_ settings: Settings, parameters: Parameters) {
        let zeros = parameters.mapped { _, tensor in tensor.engine.zeros(tensor.shape) }
        self.init(settings, updateCount: 0, firstMoment: zeros, secondMoment: zeros)
    }

    /// An optimiser as a snapshot recorded it.
    ///
    /// - Precondition: both moments have the same names.
    public init(_ settings: Settings, updateCount: Int, firstMoment: Parameters, secondMoment: Parameters) {
        precondition(firstMoment.names == secondMoment.names, "AdamW: the moments belong to different parameters")
        self.settings = settings
        self.updateCount = updateCount
        self.firstMoment = firstMoment
        self.secondMoment = secondMoment
    }

    /// One update.
    ///
    /// - Parameters:
    ///   - parameters: as they are.
    ///   - gradients: one a parameter.
    ///   - learningRate: of a parameter by its name; nil takes the settings' for all.
    /// - Precondition: parameters and gradients have the names this optimiser was made for; all are fp32.
    /// - Returns: the new parameters.
    public mutating func update(
        _ parameters: Parameters, gradients: Parameters, learningRate: ((_ name: String) -> Double)? = nil
    ) -> Parameters {
        precondition(
            parameters.names == firstMoment.names && gradients.names == parameters.names,
            "AdamW: other parameter names than at the start")
        updateCount += 1
        var first: [String: Tensor] = [:]
        var second: [String: Tensor] = [:]
        let updated = parameters.mapped { name, parameter in
            guard let gradient = gradients[name], let moment1 = firstMoment[name], let moment2 = secondMoment[name]
            else {
                preconditionFailure("AdamW: nothing known about \(name)")
            }
            let step = AdamStep(
                learningRate: learningRate?(name) ?? settings.learningRate, beta1: settings.beta1,
                beta2: settings.beta2, epsilon: settings.epsilon, weightDecay: settings.weightDecay,
                number: updateCount)
            let result = parameter.engine.adam(
                parameter: parameter.detached, gradient: gradient, moment1: moment1, moment2: moment2, step)
            first[name] = result.moment1
            second[name] = result.moment2
            return result.parameter
        }
        firstMoment = Parameters(first)
        secondMoment = Parameters(second)
        return updated
    }
}

extension Parameters {
    /// The root of the sum of all squares: per tensor by the engine, over tensors in order in double precision.
    public var norm: Double { entries.reduce(0) { $0 + $1.tensor.engine.sumOfSquares($1.tensor) }.squareRoot() }

    /// Scaled down so that the norm is at most `limit`, as torch's `clip_grad_norm_`: factor min(1, limit / (norm + 1e-6)).
    ///
    /// - Returns: the clipped tensors and the norm before clipping.
    public func clipped(toNorm limit: Double) -> (parameters: Parameters, norm: Double) {
        let norm = norm
        let factor = limit / (norm + 1e-6)
        return factor >= 1 ? (self, norm) : (mapped { $1 * Float(factor) }, norm)
    }
}
