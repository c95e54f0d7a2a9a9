/// A line chart as an SVG element, to be placed inside an HTML page.
///
/// Text and axes take the page's text colour, and the lines' colours are readable on light and on dark pages. Refers to nothing
/// outside itself.
public struct LineChart: Sendable {
    /// One line.
    public struct Series: Sendable {
        /// Shown in the legend.
        public var name: String
        /// In drawing order; where a coordinate is not finite the line is interrupted.
        public var points: [(x: Double, y: Double)]

        /// Makes a line.
        public init(name: String, points: [(x: Double, y: Double)]) {
            self.name = name
            self.points = points
        }
    }

    /// The lines, in the order of the legend.
    public var series: [Series]
    /// What runs along the bottom; may be empty.
    public var xLabel: String
    /// What the lines show; may be empty.
    public var yLabel: String
    /// Size in CSS pixels; the page may scale it.
    public var width: Int
    public var height: Int

    /// Makes a chart.
    ///
    /// - Precondition: at least 160 x 120 pixels, the least that leaves room for the lines.
    public init(series: [Series], xLabel: String = "", yLabel: String = "", width: Int = 640, height: Int = 320) {
        precondition(width >= 160 && height >= 120, "LineChart: \(width) x \(height) is too small")
        self.series = series
        self.xLabel = xLabel
        self.yLabel = yLabel
        self.width = width
        self.height = height
    }

    /// The `<svg>` element. Without a finite point it shows empty axes from 0 to 1.
    public var svg: String {
        let points = series.flatMap(\.points).filter { $0.x.isFinite && $0.y.isFinite }
        let frame = Frame(points: points, width: width, height: height, legendRows: legendRows.count)
        var parts = [
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 \(width) \(height)\" role=\"img\" "
                + "font-family=\"system-ui, sans-serif\" font-size=\"11\" fill=\"currentColor\">",
            "<title>\(escaped(yLabel))</title>",
        ]
        parts += axes(frame)
        for (index, line) in series.enumerated() { parts += curve(line, color: color(index), frame) }
        parts += legend(frame)
        parts.append("</svg>")
        return parts.joined(separator: "\n")
    }

    /// Of middle lightness, told apart also by people with colour-blindness (after Okabe and Ito).
    private static let colors = [
        "#0a7cc4", "#e0701a", "#0f9e72", "#c75a9c", "#b38600", "#4a9fdd", "#8a6fd1", "#888888",
    ]

    private func color(_ index: Int) -> String { Self.colors[index % Self.colors.count] }

    // MARK: Axes

    private func axes(_ frame: Frame) -> [String] {
        var parts = ["<g stroke=\"currentColor\" stroke-opacity=\"0.18\" stroke-width=\"1\">"]
        for value in frame.yTicks.values {
            let y = number(frame.y(value))
            parts.append("<line x1=\"\(number(frame.left))\" x2=\"\(number(frame.right))\" y1=\"\(y)\" y2=\"\(y)\"/>")
        }
        parts.append("</g>")
        parts.append("<g fill-opacity=\"0.75\">")
        for (value, label) in zip(frame.yTicks.values, frame.yTicks.labels) {
            parts.append(text(label, x: frame.left - 6, y: frame.y(value) + 4, anchor: "end"))
        }
        for (value, label) in zip(frame.xTicks.values, frame.xTicks.labels) {
            parts.append(text(label, x: frame.x(value), y: frame.bottom + 16, anchor: "middle"))
        }
        if !yLabel.isEmpty { parts.append(text(yLabel, x: 4, y: 12, anchor: "start")) }
        if !xLabel.isEmpty {
            parts.append(text(xLabel, x: (frame.left + frame.right) / 2, y: frame.bottom + 32, anchor: "middle"))
        }
        parts.append("</g>")
        return parts
    }

    // MARK: Lines

    /// A path for each uninterrupted piece; a piece of one point becomes a dot.
    private func curve(_ line: Series, color: String, _ frame: Frame) -> [String] {
        let pieces = line.points.split { !$0.x.isFinite || !$0.y.isFinite }
        return pieces.map { piece in
            let positions = piece.map { "\(number(frame.x($0.x))) \(number(frame.y($0.y)))" }
            if positions.count == 1 {
                let point = piece[piece.startIndex]
                let x = number(frame.x(point.x))
                return "<circle cx=\"\(x)\" cy=\"\(number(frame.y(point.y)))\" r=\"2.5\" fill=\"\(color)\"/>"
            }
            return "<path d=\"M\(positions.joined(separator: "L"))\" fill=\"none\" stroke=\"\(color)\" "
                + "stroke-width=\"1.8\" stroke-linejoin=\"round\" stroke-linecap=\"round\"/>"
        }
    }

    // MARK: Legend

    /// Series by legend row; rows are filled as wide as their estimated text allows.
    private var legendRows: [[Int]] {
        var rows: [[Int]] = []
        var used = Double.infinity
        for index in series.indices {
            let needed = legendWidth(series[index].name)
            if used + needed > Double(width) - 16 {
                rows.append([])
                used = 0
            }
            rows[rows.count - 1].append(index)
            used += needed
        }
        return rows
    }

    /// Letters of the 11-pixel font are about 6.2 wide; 32 for the mark and the space around it.
    private func legendWidth(_ name: String) -> Double { Double(name.count) * 6.2 + 32 }

    private func legend(_ frame: Frame) -> [String] {
        var parts: [String] = []
        for (row, indices) in legendRows.enumerated() {
            var x = 8.0
            let y = frame.legendTop + Double(row) * Frame.legendRowHeight
            for index in indices {
                parts.append(
                    "<rect x=\"\(number(x))\" y=\"\(number(y - 5))\" width=\"14\" height=\"3\" rx=\"1.5\" "
                        + "fill=\"\(color(index))\"/>")
                parts.append(text(series[index].name, x: x + 19, y: y, anchor: "start"))
                x += legendWidth(series[index].name)
            }
        }
        return parts
    }

    private func text(_ content: String, x: Double, y: Double, anchor: String) -> String {
        "<text x=\"\(number(x))\" y=\"\(number(y))\" text-anchor=\"\(anchor)\">\(escaped(content))</text>"
    }

    private func number(_ value: Double) -> String { AxisTicks.fixed(value, decimals: 1) }

    private func escaped(_ text: String) -> String {
        var result = ""
        for character in text {
            switch character {
            case "&": result += "&amp;"
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            case "\"": result += "&quot;"
            default: result.append(character)
            }
        }
        return result
    }
}

/// Where values stand on the drawing.
private struct Frame {
    static let legendRowHeight = 16.0

    let xTicks: AxisTicks
    let yTicks: AxisTicks
    let left: Double
    let right: Double
    let top: Double
    let bottom: Double
    /// Base line of the first legend row.
    let legendTop: Double

    init(points: [(x: Double, y: Double)], width: Int, height: Int, legendRows: Int) {
        let xs = points.isEmpty ? [0, 1] : points.map(\.x)
        let ys = points.isEmpty ? [0, 1] : points.map(\.y)
        xTicks = AxisTicks(from: xs.min() ?? 0, through: xs.max() ?? 1, count: max(2, width / 90))
        yTicks = AxisTicks(from: ys.min() ?? 0, through: ys.max() ?? 1, count: max(2, height / 60))
        let labelWidth = Double(yTicks.labels.map(\.count).max() ?? 1) * 6.5
        left = 14 + labelWidth
        right = Double(width) - 16
        top = 24
        bottom = Double(height) - 40 - Double(legendRows) * Self.legendRowHeight
        legendTop = bottom + 50
    }

    func x(_ value: Double) -> Double {
        left + (value - xTicks.lower) / (xTicks.upper - xTicks.lower) * (right - left)
    }

    func y(_ value: Double) -> Double {
        bottom - (value - yTicks.lower) / (yTicks.upper - yTicks.lower) * (bottom - top)
    }
}
