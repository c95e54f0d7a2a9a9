/// How the discriminator learns (method.md 1.7).
public struct DiscriminatorSettings: Codable, Sendable, Equatable {
    /// Whether it is trained at all; a frozen discriminator is a baseline.
    public var train = true
    /// Learning rate of Adam.
    public var learningRate = 1e-4
    /// Decay rates of Adam.
    public var betas = AdamBetas(0.5, 0.999)
    /// Width of the head's hidden layer.
    public var hiddenWidth = 512
    /// Last layers of the vision tower that `pickscore_adversarial` tunes.
    public var tunedLayers = 2
    /// Learning rate of Adam for the tuned layers.
    public var tunedLearningRate = 5e-6
    /// Optimiser steps each time the discriminator is trained.
    public var stepsPerTraining = 1
    /// Area under the ROC curve, on images it does not learn from, up to which a training goes on; 0 takes `stepsPerTraining` steps.
    public var targetAUC = 0.0
    /// Most optimiser steps of a training that goes on until `targetAUC`.
    public var maximumSteps = 100
    /// References in one step, drawn from nine tenths of the prompts; 0 takes one of its own prompt for each generated image of
    /// the epoch.
    public var realBatch = 0
    /// Generated images in one step; 0 takes all of the epoch.
    public var fakeBatch = 0
    /// Weight of the CLS hinge in the loss of `dino_patch`.
    public var globalLossWeight = 1.0
    /// Weight of the patch hinge in the loss of `dino_patch`.
    public var patchLossWeight = 0.3
    /// Share of a label that is spread evenly over both classes.
    public var labelSmoothing = 0.0
    /// The penalty on how steep scores are at the references.
    public var r1 = R1Settings()
    /// Generated groups kept from earlier epochs to train on; 0 keeps none.
    public var replayCapacity = 0
    /// Augmented views of every image that `dino_projected` trains on; 0 trains it on the images themselves.
    public var augmentedViews = 0
    /// What of the backbone learns with the heads that read it.
    public var backbone = BackboneTraining.frozen
    /// Last blocks of the backbone that learn where `backbone` is `last`.
    public var backboneBlocks = 2
    /// Rank of the adapter where `backbone` is `lora`.
    public var backboneRank = 8
    /// Learning rate of Adam for the backbone.
    public var backboneLearningRate = 1e-5
    /// Format of the head's arithmetic.
    public var precision = NumericPrecision.fp32
    /// What must be true before the policy moves.
    public var warmUp = WarmUpSettings()

    /// The settings of a preset.
    public init(fidelity: Fidelity) {
        switch fidelity {
        case .released:
            precision = .bf16
            tunedLayers = 1
        case .paper:
            globalLossWeight = 0.7
        case .fixed:
            stepsPerTraining = 4
            replayCapacity = 64
            warmUp = WarmUpSettings(minimumAUC: 0.8, maximumEpochs: 20)
        }
    }

    /// Documentation and check of every key.
    public static let keys: [SettingKey<DiscriminatorSettings>] = [
        .boolean("train", \.train, "Whether the discriminator learns; false is a baseline.", source: "method 1.8"),
        .number("learningRate", \.learningRate, .above(0), "Learning rate of Adam.", source: "method 1.12"),
        .betas("betas", \.betas, "Decay rates of Adam.", source: "method 1.12"),
        .integer(
            "hiddenWidth", \.hiddenWidth, 1...65536, unit: "features", "Width of the head's hidden layer.",
            source: "method 1.6"),
        .integer(
            "tunedLayers", \.tunedLayers, 1...1024, unit: "layers",
            "Last layers of the vision tower that `pickscore_adversarial` tunes.", source: "method 1.13, 1.16"),
        .number(
            "tunedLearningRate", \.tunedLearningRate, .above(0), "Learning rate of Adam for the tuned layers.",
            source: "method 1.12"),
        .integer(
            "stepsPerTraining", \.stepsPerTraining, 1...100_000, unit: "steps",
            "Optimiser steps each time the discriminator is trained.", source: "method 1.7; fixed: measured"),
        .number(
            "targetAUC", \.targetAUC, .halfOpen(0, 1),
            "Area under the ROC curve up to which a training goes on, in rounds of stepsPerTraining, one at least; it is measured "
                + "on held-out references and every fourth image of the epoch, which this training does not learn from. 0: one round. "
                + "Needs realBatch.", source: "own"),
        .integer(
            "maximumSteps", \.maximumSteps, 1...100_000, unit: "steps",
            "Most optimiser steps of a training with targetAUC; at least stepsPerTraining.", source: "own"),
        .integer(
            "realBatch", \.realBatch, 0...1_000_000, unit: "images",
            "References in one step, drawn from nine tenths of the prompts: those of the others measure. 0: one of its own prompt for "
                + "each generated image of the epoch, and none is held out. `pickscore_adversarial` takes that in any case.",
            source: "method 1.7, 1.13"),
        .integer(
            "fakeBatch", \.fakeBatch, 0...1_000_000, unit: "images",
            "Generated images in one step; 0: all of the epoch.", source: "method 1.7"),
        .number(
            "globalLossWeight", \.globalLossWeight, .atLeast(0), "Weight of the CLS hinge in the loss.",
            source: "method 1.7, 1.16"),
        .number(
            "patchLossWeight", \.patchLossWeight, .atLeast(0), "Weight of the patch hinge in the loss.",
            source: "method 1.7"),
        .number(
            "labelSmoothing", \.labelSmoothing, .halfOpen(0, 1),
            "Share s of each label that is spread evenly over both classes: the loss is 1 - s/2 of its own class's and s/2 of the "
                + "other's. A hinge then also grows beyond its margin, by s/2, and holds scores there.",
            source: "arXiv 1512.00567"),
        .number(
            "r1.weight", \.r1.weight, .atLeast(0),
            "Weight of the approximated R1 in the loss: the mean squared change of each head's score of a reference "
                + "under noise on what the head reads of it. 0: none. Not of `pickscore_adversarial`.",
            source: "arXiv 2501.08316"),
        .number(
            "r1.deviation", \.r1.deviation, .above(0), unit: "deviations",
            "Deviation of that noise, in deviations of each feature over the step's references.",
            source: "arXiv 2501.08316"),
        .integer(
            "replayCapacity", \.replayCapacity, 0...1_000_000, unit: "groups",
            "Generated groups kept from earlier epochs to train on; 0 keeps none.", source: "released: none"),
        .integer(
            "augmentedViews", \.augmentedViews, 0...64, unit: "views",
            "Augmented views (colour, shift, grey square) of every reference and generated image, of which `dino_projected` "
                + "draws one in each step; each costs a pass of the backbone and the memory of its features. 0: the images "
                + "themselves.", source: "arXiv 2006.10738; number: measured"),
        .choice(
            "backbone", \.backbone,
            "What of the reward's backbone learns with the heads that read it: nothing (frozen), a low-rank adapter on all of its "
                + "blocks (lora), or all weights of its last blocks (last). Features are then computed in every score and step, "
                + "from what the first trained block reads.", source: "method 1.7: frozen; own"),
        .integer(
            "backboneBlocks", \.backboneBlocks, 1...1024, unit: "blocks",
            "Last blocks of the backbone that learn with `backbone: last`.", source: "own"),
        .integer(
            "backboneRank", \.backboneRank, 1...1024, unit: "features",
            "Rank of the adapter of `backbone: lora`; its alpha is the same.", source: "own"),
        .number(
            "backboneLearningRate", \.backboneLearningRate, .above(0),
            "Learning rate of Adam for what of the backbone learns.", source: "own"),
        .choice("precision", \.precision, "Format of the head's arithmetic.", source: "method 1.6, 4.13"),
        .number(
            "warmUp.minimumAUC", \.warmUp.minimumAUC, .halfOpen(0, 1),
            "Area under the ROC curve on held-out images that must be reached before the policy moves; 0: at once.",
            source: "own"),
        .integer(
            "warmUp.maximumEpochs", \.warmUp.maximumEpochs, 0...1_000_000, unit: "epochs",
            "Epochs after which the policy moves even if minimumAUC was not reached; 0: never.", source: "own"),
    ]

    /// Combinations that make no sense.
    func combinationViolations() -> [SettingViolation] {
        var violations: [SettingViolation] = []
        if globalLossWeight + patchLossWeight == 0 {
            violations.append(
                .init(path: "globalLossWeight", message: "globalLossWeight and patchLossWeight must not both be 0"))
        }
        if targetAUC > 0, realBatch == 0 {
            violations.append(
                .init(
                    path: "targetAUC",
                    message: "needs held-out references, and realBatch 0 trains on those of the epoch's own prompts; "
                        + "use 0, or a realBatch above 0"))
        }
        if targetAUC > 0, maximumSteps < stepsPerTraining {
            violations.append(
                .init(
                    path: "maximumSteps",
                    message:
                        "must be at least stepsPerTraining (\(stepsPerTraining)) with targetAUC, not \(maximumSteps)"))
        }
        return violations
    }

    /// Most optimiser steps of a training.
    public var stepLimit: Int { targetAUC > 0 ? maximumSteps : stepsPerTraining }
}

/// The approximated R1 (arXiv 2501.08316): weight · mean (D(x) - D(x + noise))² over the references x.
public struct R1Settings: Codable, Sendable, Equatable {
    /// Weight in the loss; 0 for none.
    public var weight = 0.0
    /// Deviation of the noise, in deviations of each feature over the step's references.
    public var deviation = 0.1

    public init() {}
}

/// What must be true before the policy moves.
public struct WarmUpSettings: Codable, Sendable, Equatable {
    /// Held-out area under the ROC curve to reach; 0 moves the policy at once.
    public var minimumAUC: Double
    /// Epochs after which the policy moves regardless; 0 waits for ever.
    public var maximumEpochs: Int

    public init(minimumAUC: Double = 0, maximumEpochs: Int = 0) {
        self.minimumAUC = minimumAUC
        self.maximumEpochs = maximumEpochs
    }
}

/// What of the backbone learns with the discriminator's heads.
public enum BackboneTraining: String, Codable, Sendable, CaseIterable {
    /// Nothing.
    case frozen
    /// A low-rank adapter on the projections of all blocks.
    case lora
    /// All weights of the last blocks.
    case last
}
