import NeuralNetworks
public import TensorCore

/// The frozen twin: the discriminator's heads as they were when the policy began to follow them.
///
/// It scores every image beside the live version and never enters the reward. The policy follows the live version, which moves on;
/// what improves for the twin, too, is no trick against the newest heads. It costs the heads' forward pass, as the features are
/// there.
extension DiscriminatorTrainer {
    /// Takes the version just made as the twin if there is none yet and the policy follows from now on: the warm-up is over as
    /// `Schedule` sees it, and discriminator epochs that come first are done.
    ///
    /// - Parameter heldOut: of the version before.
    mutating func keepTwin(after heldOut: Separation) {
        guard twin == nil, discriminator.version >= firstFollowed else { return }
        let warmUp = settings.warmUp
        let waited = warmUp.maximumEpochs > 0 && discriminator.version >= warmUp.maximumEpochs
        if waited || heldOut.areaUnderCurve >= warmUp.minimumAUC { keepTwin() }
    }

    /// Takes the current version as the twin, in place of an older one.
    public mutating func keepTwin() { twin = discriminator }
}

extension ScheduleSettings {
    /// The first version of the discriminator that the policy may follow, warm-up apart.
    public var firstFollowedVersion: Int {
        switch kind {
        case .released, .paper, .once: discriminatorEpochs
        case .trigger, .everyRollout: 1
        }
    }
}

extension AdversarialReward {
    /// What the twin says of a group's images, one a member: the adversarial part of the reward, with the patches that the live version
    /// reads; nil where one is not finite, which is no reason to stop a run.
    ///
    /// - Parameters:
    ///   - group: the group.
    ///   - features: what `features` gave for scoring.
    ///   - twin: the frozen heads.
    ///   - lanes: pieces of the group run on them.
    public func twinScores(
        _ group: GroupID, features: FeatureTable, twin: Discriminator, lanes: Lanes = Lanes(count: 1)
    ) -> [Float]? {
        let scores = twin.adversarialScores(
            features, draws: patchDraws(of: group, count: features.count), lanes: lanes)
        return scores.allSatisfy(\.isFinite) ? scores : nil
    }
}

/// A twin's part of the stored state.
extension DiscriminatorState {
    /// Tensors of a twin: `twin/NAME`, and `twinConstant/NAME` of what is fitted.
    static func tensors(of twin: Discriminator?) -> Parameters {
        guard let twin else { return Parameters() }
        return twin.parameters.renamed { "twin/" + $0 }.merging(twin.constants.renamed { "twinConstant/" + $0 })
    }
}
