import Foundation
import Testing

@testable import Raster

#if canImport(FoundationXML)
    import FoundationXML
#endif

@Suite("LineChart")
struct LineChartTests {
    @Test(
        "ticks are round and enclose the values",
        arguments: [
            (0.0, 1.0, 5, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
            (0.0, 97.0, 5, ["0", "20", "40", "60", "80", "100"]),
            (-0.031, 0.012, 4, ["-0.04", "-0.02", "0", "0.02"]),
            (3.0, 3.0, 3, ["1", "2", "3", "4", "5"]),
            (0.0, 0.0, 2, ["-0.5", "0", "0.5"]),
            (0.0, 3e-6, 3, ["0", "1e-6", "2e-6", "3e-6"]),
            (1e7, 1.2e7, 2, ["1.0e7", "1.1e7", "1.2e7"]),
        ])
    func ticks(lower: Double, upper: Double, count: Int, labels: [String]) {
        let ticks = AxisTicks(from: lower, through: upper, count: count)
        #expect(ticks.labels.map { $0 == "0.0" ? "0" : $0 } == labels.map { $0 == "0.0" ? "0" : $0 })
        #expect(ticks.lower <= lower && ticks.upper >= upper)
    }

    @Test("numbers are written with the decimals asked for", arguments: [-1.25, 0, 0.05, 999.996, -0.001, 12])
    func fixed(value: Double) {
        let expected = String(format: "%.2f", value)
        #expect(AxisTicks.fixed(value, decimals: 2) == (expected == "-0.00" ? "0.00" : expected))
        #expect(AxisTicks.fixed(value, decimals: 0) == "\(Int(value.rounded()))")
    }

    /// Collects the elements of the drawing.
    private final class Drawing: NSObject, XMLParserDelegate {
        var elements: [(name: String, attributes: [String: String], text: String)] = []

        func parser(
            _ parser: XMLParser, didStartElement name: String, namespaceURI: String?, qualifiedName: String?,
            attributes: [String: String]
        ) {
            elements.append((name, attributes, ""))
        }

        func parser(_ parser: XMLParser, foundCharacters text: String) { elements[elements.count - 1].text += text }
    }

    private func drawing(_ chart: LineChart) throws -> Drawing {
        let drawing = Drawing()
        let parser = XMLParser(data: Data(chart.svg.utf8))
        parser.delegate = drawing
        try #require(parser.parse(), "\(chart.svg)")
        return drawing
    }

    @Test("the drawing is well-formed, shows labels and legend, and puts points where the axes say")
    func chart() throws {
        let chart = LineChart(
            series: [
                .init(name: "reward <a> & \"b\"", points: [(0, 0), (5, 1), (10, 0.5)]),
                .init(name: "other", points: [(0, 0.2), (10, 0.4)]),
            ], xLabel: "epoch", yLabel: "score")
        let elements = try drawing(chart).elements
        let texts = elements.filter { $0.name == "text" }.map { $0.text.trimmingCharacters(in: .newlines) }
        for text in ["reward <a> & \"b\"", "other", "epoch", "score", "0.2", "10"] { #expect(texts.contains(text)) }
        let paths = elements.filter { $0.name == "path" }
        #expect(paths.count == 2)
        #expect(Set(paths.map { $0.attributes["stroke"] }).count == 2)
        let path = try #require(paths.first?.attributes["d"])
        let points = path.dropFirst().split(separator: "L").map { $0.split(separator: " ").compactMap { Double($0) } }
        #expect(points.count == 3)
        // Middle of the x axis; its y is the top, 24; the last is half way down to the base of the first.
        #expect(abs(points[1][0] - (points[0][0] + points[2][0]) / 2) < 0.11)
        #expect(points[1][1] == 24)
        #expect(abs(points[2][1] - (points[0][1] + 24) / 2) < 0.11)
    }

    @Test("values that are not finite interrupt the line; a single point is a dot")
    func gaps() throws {
        let chart = LineChart(series: [
            .init(name: "a", points: [(0, 1), (1, 2), (2, .nan), (3, 4), (4, .infinity), (5, 1), (6, 1)])
        ])
        let elements = try drawing(chart).elements
        #expect(elements.count { $0.name == "path" } == 2)
        #expect(elements.count { $0.name == "circle" } == 1)
        #expect(!chart.svg.contains("nan") && !chart.svg.contains("inf"))
    }

    @Test("a chart without points has axes; many names wrap into rows within the drawing")
    func extremes() throws {
        #expect(try drawing(LineChart(series: [])).elements.contains { $0.name == "line" })
        let series = (0..<20).map { LineChart.Series(name: "reward component \($0)", points: [(0, 1)]) }
        let chart = LineChart(series: series)
        for element in try drawing(chart).elements where element.name == "text" {
            let x = try #require(element.attributes["x"].flatMap { Double($0) })
            let y = try #require(element.attributes["y"].flatMap { Double($0) })
            #expect((0...640).contains(x) && (0...320).contains(y))
        }
    }
}
