import LibC
public import TensorCore

/// One step of a flow sampler from sigma to the next smaller sigma: its mean, its noise and the log-probability of the result.
///
/// Rectified flow: x = (1 - σ) x0 + σ x1, the model predicts v = x1 - x0, so x̂0 = x - σ v and x̂1 = x + (1 - σ) v. Every step
/// is linear in x and v and adds noise of one scale, x' = a x + b v + s ε:
///
/// - ODE (Euler): a = 1, b = σ' - σ, s = 0.
/// - CPS: μ = (1 - σ') x̂0 + k σ' x̂1 with k = cos(ηπ/2), s = σ' sin(ηπ/2), hence
///   a = (1 - σ') + kσ', b = -σ(1 - σ') + k(1 - σ)σ'. Log-probability -M[(x' - μ)²]: constants and 1/(2s²) are dropped.
/// - Flow-SDE: dt = σ' - σ < 0, g = η sqrt(σ / (1 - σ*)), a = 1 + g² dt / (2σ), b = (1 + g² (1 - σ) / (2σ)) dt,
///   s = g sqrt(-dt). σ* = σ except at σ = 1, where it is the schedule's second sigma. Log-probability: the mean log density.
///
/// M[·] is the mean over all elements but the first axis. Coefficients are computed in double precision from fp32 sigmas.
///
/// - Source: method.md 1.5; Adv-GRPO@8287f90 `sd3_sde_with_logprob.py`; Flow-CPS arXiv 2509.05952; Flow-GRPO arXiv 2505.05470
///   eq. 9. Differences: the linear form (equal up to rounding); `-dt` under the root.
public struct FlowStep: Sendable, Equatable {
    /// Place in the schedule.
    public let index: Int
    /// Current noise level in (0, 1]; the next one is smaller.
    public let sigma: Float, sigmaNext: Float
    /// The stochastic step taken, nil for the deterministic one.
    public let kind: StochasticStep?
    /// a and b above.
    public let latentCoefficient: Float, velocityCoefficient: Float
    /// s above; 0 for the ODE step.
    public let noiseScale: Float

    /// Model time of the step, 1000 σ.
    public var timestep: Float { 1000 * sigma }

    /// Step `index` of a schedule.
    ///
    /// - Parameters:
    ///   - index: of the step, from 0.
    ///   - sigmas: descending noise levels; the step goes from `sigmas[index]` to `sigmas[index + 1]`.
    ///   - kind: the stochastic step, nil for the deterministic one.
    ///   - noiseLevel: η; unused by the deterministic step.
    public init(_ index: Int, of sigmas: [Float], kind: StochasticStep? = nil, noiseLevel: Double = 0) {
        precondition(index >= 0 && index + 1 < sigmas.count, "step \(index) of \(sigmas.count - 1)")
        precondition(sigmas[index] > sigmas[index + 1], "sigmas must descend: \(sigmas[index]), \(sigmas[index + 1])")
        self.index = index
        sigma = sigmas[index]
        sigmaNext = sigmas[index + 1]
        self.kind = kind
        let (t, next) = (Double(sigma), Double(sigmaNext))
        switch kind {
        case nil:
            (latentCoefficient, velocityCoefficient, noiseScale) = (1, Float(next - t), 0)
        case .cps:
            let kept = cos(noiseLevel * .pi / 2)
            latentCoefficient = Float((1 - next) + kept * next)
            velocityCoefficient = Float(-t * (1 - next) + kept * (1 - t) * next)
            noiseScale = Float(next * sin(noiseLevel * .pi / 2))
        case .flowSDE:
            // The first level is 1, but for fp32's rounding of some shifts.
            let denominator = 1 - t < 1e-6 ? 1 - Double(sigmas[1]) : 1 - t
            let squared = noiseLevel * noiseLevel * t / denominator
            let dt = next - t
            latentCoefficient = Float(1 + squared * dt / (2 * t))
            velocityCoefficient = Float((1 + squared * (1 - t) / (2 * t)) * dt)
            noiseScale = Float((squared * -dt).squareRoot())
        }
    }

    /// μ = a x + b v, fp32.
    ///
    /// - Parameters:
    ///   - x_BCHW: latents at `sigma`, fp32.
    ///   - velocity_BCHW: model output, any precision; tracked in training.
    public func mean(_ x_BCHW: Tensor, velocity_BCHW: Tensor) -> Tensor {
        x_BCHW * latentCoefficient + velocity_BCHW.converted(to: .float32) * velocityCoefficient
    }

    /// x' = μ + s ε.
    public func next(mean: Tensor, noise: Tensor) -> Tensor { mean + noise * noiseScale }

    /// ℓ of the step that led to `next_BCHW`, one value a sample: fp32 [B]. Gradients flow through the mean only.
    ///
    /// - Parameter tokens: where given, one value a token, fp32 [B, rows, columns], M[·] taken over the token's channels and
    ///   pixels; a sample's ℓ is the mean of its tokens'.
    /// - Precondition: a stochastic step with noise; the ODE has no density.
    public func logProbability(of next_BCHW: Tensor, mean: Tensor, tokens: PatchGrid? = nil) -> Tensor {
        precondition(noiseScale > 0, "log-probability of step \(index), which adds no noise")
        let squares = (next_BCHW.detached - mean).activated(.square)
        let squaredDistance = tokens.map(squares.meanPerToken) ?? squares.meanPerSample()
        switch kind {
        case .flowSDE:
            let s = Double(noiseScale)
            return squaredDistance * Float(-1 / (2 * s * s)) + Float(-log(s) - 0.5 * log(2 * Double.pi))
        default:
            return -squaredDistance
        }
    }
}

extension Tensor {
    /// Mean over the channels and pixels of each token: [B, C, H, W] -> fp32 [B, rows, columns].
    ///
    /// - Precondition: tokens are squares that cover the latents.
    func meanPerToken(_ tokens: PatchGrid) -> Tensor {
        let side = shape[2] / tokens.rows
        precondition(
            tokens.rows * side == shape[2] && tokens.columns * side == shape[3], "latents \(shape) in \(tokens)")
        return patchified(self, patch: side).meanOverLastAxis().reshaped(shape[0], tokens.rows, tokens.columns)
    }
}
