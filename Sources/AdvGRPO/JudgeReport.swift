internal import LibC
public import TensorCore

/// What a judge of captions says of the images of one prompt.
public struct JudgedPrompt: Sendable {
    /// Log-probability of the prompt among the judge's captions, in nats, for each image.
    public let logProbabilities: [Double]
    /// Captions that are more probable than the prompt, for each image; 0 where it is the first.
    public let ranks: [Int]
    /// Largest cosine of the judge's features to those of the prompt's references, for each image.
    public let similarities: [Double]
    /// The judge's features of the images, [B, D], and of the references, [R, D].
    public let features_BD: Tensor
    public let references_RD: Tensor

    /// - Parameters:
    ///   - logits_BC: of every caption.
    ///   - caption: the prompt's, in 0..<C.
    ///   - features_BD: of the images.
    ///   - references_RD: of the prompt's references, at least one.
    public init(logits_BC: Tensor, caption: Int, features_BD: Tensor, references_RD: Tensor) {
        let C = logits_BC.shape[1]
        precondition(caption >= 0 && caption < C, "caption \(caption) of \(C)")
        let rows = logits_BC.values.map(Double.init)
        let images = (0..<logits_BC.shape[0]).map { Array(rows[$0 * C..<($0 + 1) * C]) }
        logProbabilities = images.map { $0[caption] - logarithmOfSum($0) }
        ranks = images.map { row in row.count { $0 > row[caption] } }
        similarities = nearestSimilarity(features_BD, references_RD).map(Double.init)
        self.features_BD = features_BD
        self.references_RD = references_RD
    }
}

/// What a judge of captions says of a policy: numbers over held-out prompts and fixed seeds.
public struct JudgeReport: Sendable, Equatable, Codable {
    /// Share of images whose own caption is the most probable one.
    public let top1: Double
    /// Share of images whose own caption is among the five most probable ones; nil for a judge of five captions or fewer.
    public let top5: Double?
    /// Mean over images of the log-probability of their own caption, in nats.
    public let logProbability: Double
    /// Mean over images of the largest cosine to the prompt's own references, by the judge's features.
    public let similarity: Double
    /// Fréchet distance of all images to all references, by the judge's features; nil for fewer than two of either.
    public let frechetDistance: Double?
    /// Standard error of each of these, by its name, from `PromptBootstrap`; none for a single prompt.
    public let standardErrors: [String: Double]
    /// Images judged, and prompts they belong to.
    public let images: Int
    public let prompts: Int

    /// - Parameters:
    ///   - judged: at least one prompt.
    ///   - captionCount: captions that the judge knows.
    ///   - lanes: threads; the result does not depend on how many there are.
    public init(_ judged: [JudgedPrompt], captionCount: Int, lanes: Lanes) {
        precondition(!judged.isEmpty, "a judgement of no prompts")
        let features = PromptFeatures(judged.map(\.features_BD))
        let references = PromptFeatures(judged.map(\.references_RD))
        let means: [String: [[Double]]] = [
            "top1": judged.map { $0.ranks.map { $0 < 1 ? 1 : 0 } },
            "top5": captionCount > 5 ? judged.map { $0.ranks.map { $0 < 5 ? 1 : 0 } } : [],
            "logProbability": judged.map(\.logProbabilities),
            "similarity": judged.map(\.similarities),
        ]
        var figures: [String: PromptBootstrap.Figure] = means.mapValues { values in { mean(values, counts: $0) } }
        figures["frechetDistance"] = { features.distance(to: references, counts: $0) }
        let measured = PromptBootstrap(promptCount: judged.count).measured(figures, lanes: lanes)
        top1 = measured.values["top1"] ?? .nan
        top5 = measured.values["top5"]
        logProbability = measured.values["logProbability"] ?? .nan
        similarity = measured.values["similarity"] ?? .nan
        frechetDistance = measured.values["frechetDistance"]
        standardErrors = measured.standardErrors
        images = judged.reduce(0) { $0 + $1.ranks.count }
        prompts = judged.count
    }

    /// Figures of a judgement, each declared once; the names are those of its JSON.
    public static let metrics = MetricTable<JudgeReport>(
        "Judgement",
        preface: """
            What `advgrpo evaluate --judge` says of the same images, under `judge`: by a classifier of captions that no reward and
            no other figure reads. `standardErrors` as above.
            """,
        [
            Metric("top1", unit: "share", "of images whose caption is the judge's first choice", healthy: "higher") {
                $0.top1
            },
            Metric(
                "top5", unit: "share",
                "of images whose caption is among the judge's first five; absent with five captions or fewer",
                healthy: "higher"
            ) { $0.top5 },
            Metric(
                "logProbability", unit: "nats", "mean over images of the log-probability of their caption",
                healthy: "higher"
            ) { $0.logProbability },
            Metric(
                "similarity", unit: "cosine",
                "mean over images of the largest cosine to the prompt's own references, by the judge's features",
                healthy: "higher"
            ) { $0.similarity },
            Metric(
                "frechetDistance", "Fréchet distance of images and references by the judge's features",
                healthy: "lower"
            ) { $0.frechetDistance },
        ])
}

/// ln Σ exp, without overflow.
private func logarithmOfSum(_ values: [Double]) -> Double {
    let largest = values.max() ?? 0
    return largest + log(values.reduce(0) { $0 + exp($1 - largest) })
}
