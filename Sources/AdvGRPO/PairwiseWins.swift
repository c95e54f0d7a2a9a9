/// How often one policy's image is preferred to another's of the same prompt and noise.
public struct PairwiseWins: Sendable, Equatable, Codable {
    /// Pairs in which the first is preferred, the second is, and neither, their figures being equal.
    public let wins: Int, losses: Int, ties: Int
    /// (wins + ties / 2) / pairs, in [0, 1]: a tie is half a win.
    public let share: Double
    /// Wilson's interval of `share` at 95%, low and high; it takes the pairs for independent, which those of one prompt are not
    /// quite.
    public let interval: [Double]

    /// Pairs of all three kinds.
    public var pairs: Int { wins + losses + ties }

    /// - Parameters:
    ///   - first: a figure of each of the first policy's images; higher is better.
    ///   - second: the second's, in the same order; at least one.
    public init(_ first: [Double], over second: [Double]) {
        precondition(!first.isEmpty && first.count == second.count, "wins of \(first.count) over \(second.count)")
        let pairs = zip(first, second)
        self.init(
            wins: pairs.count { $0 > $1 }, losses: pairs.count { $0 < $1 }, ties: pairs.count { $0 == $1 })
    }

    /// - Parameters: counts, at least one of them above zero.
    /// - Source: Wilson 1927.
    public init(wins: Int, losses: Int, ties: Int) {
        (self.wins, self.losses, self.ties) = (wins, losses, ties)
        let n = Double(wins + losses + ties)
        precondition(n > 0, "wins of no pairs")
        share = (Double(wins) + Double(ties) / 2) / n
        // The normal distribution's 97.5th percentile.
        let z = 1.959963984540054
        let centre = share + z * z / (2 * n)
        let spread = z * (share * (1 - share) / n + z * z / (4 * n * n)).squareRoot()
        let scale = 1 + z * z / n
        interval = [max(0, (centre - spread) / scale), min(1, (centre + spread) / scale)]
    }
}
