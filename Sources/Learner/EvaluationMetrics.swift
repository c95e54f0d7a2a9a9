public import AdvGRPO
public import MethodModels

extension Evaluator.Result {
    /// Figures of an evaluation, each declared once; the names are those of its JSON.
    static let metrics = MetricTable<Evaluator.Result>(
        "Evaluation",
        preface: """
            Before and after training, on `run.evaluation.prompts` prompts that training never sees, with fixed seeds and
            averaged weights; `advgrpo evaluate --json` gives the same keys. A figure that too few images were there for is
            absent. `standardErrors` has those of the first three, shown as 5.48 ± 0.12: the deviation over 100 resamples
            of the prompts with replacement, each with all its images and references.
            """,
        [
            Metric(
                "dinoSimilarity", unit: "cosine",
                "mean over images of the largest CLS cosine to the prompt's own references", healthy: "higher"
            ) { $0.dinoSimilarity },
            Metric(
                "frechetDistance",
                "Fréchet distance between Gaussians fitted to CLS features of images and of references",
                healthy: "lower"
            ) { $0.frechetDistance },
            Metric(
                "diversity", unit: "cosine distance",
                "mean over prompts of 1 - cosine over pairs of the prompt's images; 0 is one picture over and over",
                healthy: "not much lower than before"
            ) { $0.diversity },
            Metric(
                "discriminatorAUC", unit: "share",
                "of a fresh discriminator fitted to the images of one half of the prompts, on the other half; 0.5: cannot "
                    + "be told apart", healthy: "lower"
            ) { $0.discriminatorAUC },
        ])

    /// Every figure that could be measured, in the order of docs/metrics.md.
    public var figures: [Estimate] { Self.metrics.estimates(of: self, standardErrors: standardErrors) }
}

extension MetricTable {
    /// The figures that a record has, in the table's order.
    ///
    /// - Parameter standardErrors: by the figures' names; nil and missing ones are unknown.
    public func estimates(of record: Record, standardErrors: [String: Double]?) -> [Estimate] {
        let values = values(of: record)
        return section.metrics.compactMap { metric in
            values[metric.name].map { Estimate(metric.name, $0, standardError: standardErrors?[metric.name]) }
        }
    }
}
