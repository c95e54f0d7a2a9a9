/// Which of the two players learns in an epoch.
public struct EpochPlan: Sendable, Equatable {
    /// Whether this epoch's images train the discriminator.
    public let trainsDiscriminator: Bool
    /// Whether this epoch's groups train the policy.
    public let trainsPolicy: Bool

    /// Both decisions.
    public init(trainsDiscriminator: Bool, trainsPolicy: Bool) {
        self.trainsDiscriminator = trainsDiscriminator
        self.trainsPolicy = trainsPolicy
    }
}

/// Divides the epochs between discriminator and policy.
///
/// With k = `discriminatorEpochs`:
/// - `released`, `paper`: epoch e trains the discriminator if (e + 1) mod (k + 1) ≠ 0, else the policy (k = 9 and 10); a supervised
///   start's epochs do not count.
/// - `once`: the first k the discriminator, all others the policy: a head that is trained once and then frozen.
/// - `trigger`: the discriminator if the mean reward of the prompts' references is below that of the epoch's images (eq. 7).
/// - `every-rollout`: both. Rewards are scored before the discriminator moves, so the policy learns from the version that
///   the previous epoch left.
///
/// A discriminator that is never trained leaves every epoch to the policy. Before all that comes the warm-up: the policy
/// moves only once a trained version has reached `minimumAUC` on held-out images, or after `maximumEpochs` (0: never without it).
/// The state changes only through `record`; `plan` is a pure function of state and evidence.
///
/// - Source: method.md 1.8. Difference: the warm-up is ours.
public struct Schedule: Sendable, Equatable {
    /// What the schedule remembers; part of a snapshot.
    public struct State: Sendable, Equatable, Codable {
        /// Whether the warm-up is over.
        public fileprivate(set) var isWarm = false
        /// Epochs of warm-up so far.
        public fileprivate(set) var warmUpEpochCount = 0
        /// Trainings of the discriminator and of the policy so far.
        public fileprivate(set) var discriminatorEpochCount = 0
        /// See `discriminatorEpochCount`.
        public fileprivate(set) var policyEpochCount = 0

        /// The start of a run.
        public init() {}
    }

    /// Mean rewards of an epoch's references and generated images, for `trigger`.
    public struct Evidence: Sendable, Equatable {
        /// Mean reward of the references.
        public let realMean: Double
        /// Mean reward of the generated images.
        public let fakeMean: Double

        /// Both means under the same version.
        public init(realMean: Double, fakeMean: Double) {
            self.realMean = realMean
            self.fakeMean = fakeMean
        }
    }

    private let settings: ScheduleSettings
    private let warmUp: WarmUpSettings
    private let trainsDiscriminator: Bool
    /// What it remembers.
    public private(set) var state: State

    /// - Parameters:
    ///   - schedule: who learns when.
    ///   - discriminator: whether it is trained, and the warm-up.
    ///   - algorithm: whether there is a discriminator at all.
    ///   - state: of a snapshot; the start of a run otherwise.
    public init(
        schedule: ScheduleSettings, discriminator: DiscriminatorSettings, algorithm: Algorithm = .advGRPO,
        state: State = State()
    ) {
        settings = schedule
        warmUp = discriminator.warmUp
        trainsDiscriminator = discriminator.train && algorithm == .advGRPO
        self.state = state
    }

    /// Whether the policy still waits for the discriminator.
    public var isWarmingUp: Bool { trainsDiscriminator && warmUp.minimumAUC > 0 && !state.isWarm }

    /// Whether `plan` asks for evidence.
    public var needsEvidence: Bool { trainsDiscriminator && !isWarmingUp && settings.kind == .trigger }

    /// Who learns in the next epoch of rollouts.
    ///
    /// - Precondition: `evidence` is given where `needsEvidence`.
    public func plan(evidence: Evidence? = nil) -> EpochPlan {
        guard trainsDiscriminator else { return EpochPlan(trainsDiscriminator: false, trainsPolicy: true) }
        if isWarmingUp { return EpochPlan(trainsDiscriminator: true, trainsPolicy: false) }
        switch settings.kind {
        case .everyRollout:
            return EpochPlan(trainsDiscriminator: true, trainsPolicy: true)
        case .released, .paper:
            // Each epoch of rollouts so far has trained one of the two.
            let rollouts = state.discriminatorEpochCount + state.policyEpochCount
            let policy = (rollouts + 1) % (settings.discriminatorEpochs + 1) == 0
            return EpochPlan(trainsDiscriminator: !policy, trainsPolicy: policy)
        case .once:
            let discriminator = state.discriminatorEpochCount < settings.discriminatorEpochs
            return EpochPlan(trainsDiscriminator: discriminator, trainsPolicy: !discriminator)
        case .trigger:
            guard let evidence else { preconditionFailure("schedule trigger: an epoch without mean rewards") }
            let discriminator = evidence.realMean < evidence.fakeMean
            return EpochPlan(trainsDiscriminator: discriminator, trainsPolicy: !discriminator)
        }
    }

    /// To be called when an epoch is done.
    ///
    /// - Parameters:
    ///   - plan: what was trained.
    ///   - areaUnderCurve: of the discriminator on held-out images, when it was trained.
    public mutating func record(_ plan: EpochPlan, areaUnderCurve: Double?) {
        if isWarmingUp {
            state.warmUpEpochCount += 1
            let reached = (areaUnderCurve ?? 0) >= warmUp.minimumAUC
            let waited = warmUp.maximumEpochs > 0 && state.warmUpEpochCount >= warmUp.maximumEpochs
            state.isWarm = reached || waited
        }
        if plan.trainsDiscriminator { state.discriminatorEpochCount += 1 }
        if plan.trainsPolicy { state.policyEpochCount += 1 }
    }
}
