internal import LibC

/// Round numbers along an axis that enclose a range of values: steps of 1, 2 or 5 times a power of ten.
struct AxisTicks: Equatable {
    /// Ascending, at least two.
    let values: [Double]
    /// One text for each value, all with the same number of decimals.
    let labels: [String]

    var lower: Double { values[0] }
    var upper: Double { values[values.count - 1] }

    /// Ticks for the finite values from `lower` to `upper`; about `count` of them.
    init(from lower: Double, through upper: Double, count: Int) {
        var lower = lower
        var upper = upper
        if upper - lower <= max(abs(lower), abs(upper)) * 1e-9 {
            // One value only: give it room.
            let margin = max(abs(lower), abs(upper)) * 0.5
            lower -= margin > 0 ? margin : 0.5
            upper += margin > 0 ? margin : 0.5
        }
        let rough = (upper - lower) / Double(max(count, 1))
        let exponent = Int(floor(log10(rough)))
        let power = pow(10, Double(exponent))
        let factor = [1, 2, 5, 10].first { Double($0) * power >= rough * (1 - 1e-9) } ?? 10
        let step = Double(factor) * power
        let first = floor(lower / step + 1e-9)
        let last = ceil(upper / step - 1e-9)
        // Multiples of the step, so that no error adds up; -0 is written 0.
        values = (0...Int(last - first)).map { (first + Double($0)) * step + 0 }
        let decimals = max(0, -(factor == 10 ? exponent + 1 : exponent))
        labels = values.map { Self.text($0, decimals: decimals, step: step) }
    }

    /// Plain decimals where they are short, otherwise a mantissa and an exponent.
    private static func text(_ value: Double, decimals: Int, step: Double) -> String {
        if value == 0 { return "0" }
        if decimals <= 4, abs(value) < 1e6 { return Self.fixed(value, decimals: decimals) }
        let exponent = Int(floor(log10(abs(value)) + 1e-9))
        let digits = max(0, exponent - Int(floor(log10(step) + 1e-9)))
        return Self.fixed(value / pow(10, Double(exponent)), decimals: digits) + "e\(exponent)"
    }

    /// A number with a fixed count of decimals, without Foundation and whatever the locale.
    static func fixed(_ value: Double, decimals: Int) -> String {
        let scale = pow(10, Double(decimals))
        let scaled = Int64((abs(value) * scale).rounded())
        let unit = Int64(scale)
        let sign = value < 0 && scaled > 0 ? "-" : ""
        guard decimals > 0 else { return sign + "\(scaled)" }
        let fraction = "\(scaled % unit)"
        return sign + "\(scaled / unit)." + String(repeating: "0", count: decimals - fraction.count) + fraction
    }
}
