/// How well one number tells references from generated images.
public struct Separation: Sendable, Equatable, Codable {
    /// ½ (share of references above 0 + share of generated images below 0).
    public let accuracy: Double
    /// Mean over the references.
    public let realMean: Double
    /// Mean over the generated images.
    public let fakeMean: Double
    /// Probability that a reference has a higher value than a generated image, ties counting one half: the area under
    /// the ROC curve.
    public let areaUnderCurve: Double
    /// ½ (mean relu(1 - real) + mean relu(1 + fake)) of the values in their unit: 1 for a number that knows nothing and stays at 0,
    /// more for one that is sure and wrong; nil where values are comparable within one prompt only.
    public let hinge: Double?

    /// `realMean` - `fakeMean`.
    public var margin: Double { realMean - fakeMean }

    /// - Parameter unit: what the values of one head are multiplied with in these: the sum of the heads' weights.
    /// - Precondition: neither list is empty.
    public init(real: [Float], fake: [Float], unit: Double = 1) {
        precondition(!real.isEmpty && !fake.isEmpty, "separation: \(real.count) real, \(fake.count) fake")
        let (positive, negative) = (Double(real.count { $0 > 0 }), Double(fake.count { $0 < 0 }))
        accuracy = (positive / Double(real.count) + negative / Double(fake.count)) / 2
        realMean = Moments(real.map(Double.init)).mean
        fakeMean = Moments(fake.map(Double.init)).mean
        areaUnderCurve = AdvGRPO.areaUnderCurve(positive: real, negative: fake)
        let (realLoss, fakeLoss) = (
            Moments(real.map { max(0, 1 - Double($0) / unit) }).mean,
            Moments(fake.map { max(0, 1 + Double($0) / unit) }).mean
        )
        hinge = (realLoss + fakeLoss) / 2
    }

    /// Where values are comparable within one prompt only: row i of both lists belongs to the i-th prompt and is a pair. Accuracy is
    /// then the share of pairs whose reference is above the generated image, ties counting one half; the area under the ROC
    /// curve is the prompts' own, averaged over rows.
    ///
    /// - Precondition: three lists of one length, not empty.
    public init(real: [Float], fake: [Float], prompts: [String]) {
        precondition(
            !real.isEmpty && real.count == fake.count && fake.count == prompts.count,
            "separation: \(real.count) real, \(fake.count) fake, \(prompts.count) prompts")
        let wins = zip(real, fake).reduce(0.0) { $0 + ($1.0 > $1.1 ? 1 : $1.0 == $1.1 ? 0.5 : 0) }
        accuracy = wins / Double(real.count)
        hinge = nil
        realMean = Moments(real.map(Double.init)).mean
        fakeMean = Moments(fake.map(Double.init)).mean
        let rows = Dictionary(grouping: prompts.indices) { prompts[$0] }.sorted { $0.key < $1.key }.map(\.value)
        areaUnderCurve =
            rows.reduce(0.0) { sum, rows in
                sum + Double(rows.count)
                    * AdvGRPO.areaUnderCurve(positive: rows.map { real[$0] }, negative: rows.map { fake[$0] })
            } / Double(real.count)
    }
}

/// Probability that a positive value exceeds a negative one, ties counting one half (Mann and Whitney).
///
/// - Precondition: neither list is empty; no NaN.
/// - Complexity: O(n log n), by ranks.
public func areaUnderCurve(positive: [Float], negative: [Float]) -> Double {
    let sorted = (positive.map { ($0, true) } + negative.map { ($0, false) }).sorted { $0.0 < $1.0 }
    var wins = 0.0
    var below = 0.0
    var start = 0
    while start < sorted.count {
        var end = start
        var (positives, negatives) = (0.0, 0.0)
        while end < sorted.count, sorted[end].0 == sorted[start].0 {
            if sorted[end].1 { positives += 1 } else { negatives += 1 }
            end += 1
        }
        wins += positives * (below + negatives / 2)
        below += negatives
        start = end
    }
    return wins / (Double(positive.count) * Double(negative.count))
}
