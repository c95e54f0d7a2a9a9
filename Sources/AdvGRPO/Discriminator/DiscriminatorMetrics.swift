extension DiscriminatorReport {
    /// Figures of a training, declared once: the reward server sends them by name, whoever shows them looks them up here.
    public static let metrics = MetricTable<DiscriminatorReport>(
        "Discriminator",
        preface: """
            Measured by the reward server when it trains, and sent by name: a metric more is a line in
            `DiscriminatorMetrics.swift` and nothing else. Loss, accuracy, means and gradient are those of the images it
            trained on; `auc`, and what is held out, are those of the version before, the one that the epoch's rewards come
            from, on images new to it: the epoch's images and held-out references, or, where the epoch's own references train
            (`discriminator.realBatch: 0`), references of all prompts. With `pickscore_adversarial`, whose score compares
            within a prompt only, `auc` is each prompt's own, averaged, against the references of the images' own prompts;
            without another head, accuracy is the share of pairs in which the reference scores higher, and the means are
            PickScore's, not divided by 26.
            """,
        [
            Metric(
                "discriminator.steps", unit: "steps",
                "optimiser steps of the training: `discriminator.stepsPerTraining`, or with `discriminator.targetAUC` as many "
                    + "rounds as it took",
                healthy: "below `discriminator.maximumSteps`, where there is a target"
            ) { Double($0.stepCount) },
            Metric(
                "discriminator.reachedAUC", unit: "share",
                "the area under the ROC curve after the training, on held-out references and on every fourth image of the epoch, "
                    + "which it did not learn from; only with `discriminator.targetAUC`",
                healthy: "at least `discriminator.targetAUC`"
            ) { $0.reached?.areaUnderCurve },
            Metric(
                "discriminator.loss",
                "mean loss over the training's steps: hinge, pairwise logistic for `pickscore_adversarial`, and "
                    + "`discriminator.r1.weight` times the approximated R1",
                healthy: "below 1 (hinge) or ln 2 (pairs), where D knows nothing"
            ) { $0.loss },
            Metric(
                "discriminator.gradientNorm",
                "mean over the training's steps of the global norm of the heads' gradient; nothing clips it",
                healthy: "steady; near 0 D has no more to learn from these images", chart: "Discriminator's gradient"
            ) { $0.gradientNorm },
            Metric(
                "discriminator.accuracy", unit: "share",
                "1/2 (share of references with D > 0 + share of generated images with D < 0)", healthy: "0.6 to 0.95",
                chart: "Discriminator", live: "D accuracy %.0f%%"
            ) { $0.training.accuracy },
            Metric("discriminator.realMean", unit: "score", "mean D of references") { $0.training.realMean },
            Metric("discriminator.fakeMean", unit: "score", "mean D of generated images") { $0.training.fakeMean },
            Metric(
                "discriminator.margin", unit: "score", "`discriminator.realMean - discriminator.fakeMean`",
                healthy: "above 0; falling while the policy learns", chart: "Margin"
            ) { $0.training.margin },
            Metric(
                "discriminator.auc", unit: "share",
                "probability that D scores a reference above a generated image, ties counting one half: the area under "
                    + "the ROC curve",
                healthy: "above `discriminator.warmUp.minimumAUC` at the policy's start; 0.5 is noise",
                chart: "Discriminator"
            ) { $0.heldOut.areaUnderCurve },
            Metric(
                "discriminator.heldOutAccuracy", unit: "share",
                "`discriminator.accuracy` on the images and references of `discriminator.auc`", healthy: "0.55 to 0.95"
            ) { $0.heldOut.accuracy },
            Metric(
                "discriminator.heldOutMargin", unit: "score",
                "the gap: mean D of references minus mean D of generated images, on those of `discriminator.auc`",
                healthy: "above 0; falling while the policy learns", chart: "Margin"
            ) { $0.heldOut.margin },
            Metric(
                "discriminator.heldOutHinge",
                "1/2 (mean relu(1 - D) of references + mean relu(1 + D) of generated images) on those of "
                    + "`discriminator.auc`, D over the sum of the heads' weights; absent with `pickscore_adversarial`",
                healthy: "below 1, where D knows nothing; above, D is surer than right"
            ) { $0.heldOut.hinge },
        ])
}
