import Foundation

/// A measured figure and how far it would move if it were measured again on other prompts.
public struct Estimate: Sendable, Equatable {
    /// Of the metric.
    public let name: String
    /// What was measured.
    public let value: Double
    /// Standard error in the value's unit; nil where it is not known.
    public let standardError: Double?

    /// Makes an estimate.
    public init(_ name: String, _ value: Double, standardError: Double?) {
        self.name = name
        self.value = value
        self.standardError = standardError
    }

    /// `5.48 ± 0.12`: two digits of the error and as many decimals of the value; four decimals without an error.
    public var text: String {
        guard let standardError, standardError > 0, standardError.isFinite else { return String(format: "%.4f", value) }
        let decimals = min(8, max(0, 1 - Int(log10(standardError).rounded(.down))))
        return String(format: "%.\(decimals)f ± %.\(decimals)f", value, standardError)
    }
}
