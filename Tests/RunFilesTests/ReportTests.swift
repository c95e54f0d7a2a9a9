import Configuration
import Foundation
import Raster
import Testing

@testable import Processes
@testable import RunFiles

@Suite("Report")
struct ReportTests {
    private func report() throws -> Report {
        var report = Report(title: "Run <1>", summary: "Emoji & \"more\"")
        report.comparisons = [
            .init("Frechet distance", before: 100, after: 80, aim: .lower, note: "lower is better"),
            .init("DINO similarity", before: 0.5, after: 0.45, aim: .higher),
            .init("diversity", before: 0.25, after: 0.25, aim: .higher),
            .init("AUC", before: nil, after: .nan, aim: .neither),
        ]
        let png = try RGBImage(width: 8, height: 4, color: RGBColor(red: 255, green: 120, blue: 0)).pngBytes()
        report.sheets = [.init(caption: "before", png: png), .init(caption: "after", png: png)]
        report.charts = [.init(title: "reward", explanation: "mean", svg: "<svg viewBox=\"0 0 2 1\"></svg>")]
        report.roles = [.init(name: "learner", seconds: ["idle": 20, "training": 75, "<odd>": 5])]
        report.figures = [
            .init(name: "reward.mean", value: .nan, unit: "reward", meaning: "mean of `r`", healthy: "rises > 0")
        ]
        report.facts = [("engine", "onednn <3>")]
        report.settings = Settings().resolved()
        return report
    }

    @Test("changes are shown in per cent and in words")
    func changes() throws {
        let html = try report().html()
        #expect(html.contains("<td>100</td><td>80</td><td class=\"better\">-20.0% better</td>"))
        #expect(html.contains("<td>0.5</td><td>0.45</td><td class=\"worse\">-10.0% worse</td>"))
        #expect(html.contains("<td>0.25</td><td>0.25</td><td>+0.0%</td>"))
        #expect(html.contains("<td>&ndash;</td><td>&ndash;</td><td>&ndash;</td>"))
    }

    @Test("a supervised start has a column where there was one, and what the figures say follows the table")
    func start() throws {
        var report = try report()
        report.comparisons.append(.init("distance", before: 7, start: 4, after: 3.5, aim: .lower))
        report.findings = ["it went from 4 to <3.5>"]
        let html = report.html()
        #expect(html.contains("<th>before</th><th>supervised start</th><th>after</th>"))
        #expect(html.contains("<td>7</td><td>4</td><td>3.5</td><td class=\"better\">-50.0% better</td>"))
        #expect(html.contains("<td>100</td><td>&ndash;</td><td>80</td>"))
        #expect(html.contains("<p>it went from 4 to &lt;3.5&gt;</p>"))
    }

    @Test("a role's seconds are a table of shares, the longest first, of its wall time")
    func roles() throws {
        let html = try report().html()
        let row = try #require(
            html.split(separator: "<th scope=\"row\">learner</th>").last?.split(separator: "</tr>").first)
        #expect(row.contains("<td>100.0 s</td>"))
        let places = ["training 75.0%", "idle 20.0%", "&lt;odd&gt; 5.0%"].map { row.ranges(of: $0).first?.lowerBound }
        #expect(places.allSatisfy { $0 != nil } && places.compactMap { $0 } == places.compactMap { $0 }.sorted())
        let widths = row.matches(of: /width:([0-9.]+)%/).compactMap { Double($0.output.1) }
        #expect(widths == [75, 20, 5])
    }

    @Test("a figure stands with its unit, meaning and healthy range; one that is not finite has no value")
    func figures() throws {
        let html = try report().html()
        #expect(
            html.contains(
                "reward.mean<small>mean of r</small></th><td>&ndash;</td><td>reward</td><td>rises &gt; 0</td>"))
    }

    @Test("text is escaped and nothing is loaded from elsewhere")
    func selfContained() throws {
        let html = try report().html()
        #expect(html.contains("<h1>Run &lt;1&gt;</h1>") && html.contains("Emoji &amp; &quot;more&quot;"))
        #expect(html.contains("onednn &lt;3&gt;"))
        for reference in ["http:", "https:", "src=\"/", "@import", "url(", "<script", "<link"] {
            #expect(!html.contains(reference), "\(reference)")
        }
    }

    @Test("pictures are whole PNG files")
    func pictures() throws {
        let html = try report().html()
        let parts = html.split(separator: "base64,").dropFirst()
        #expect(parts.count == 2)
        for part in parts {
            let data = try #require(Data(base64Encoded: String(part.prefix { $0 != "\"" })))
            #expect(try RGBImage(encoded: Array(data)).width == 8)
        }
    }

    @Test("every opened element is closed, and empty sections are left out")
    func structure() throws {
        for html in [try report().html(), Report(title: "a", summary: "b").html()] {
            for element in ["section", "table", "tr", "td", "figure", "div", "span", "style", "main", "details", "svg"]
            {
                let opened = html.split(separator: "<\(element)", omittingEmptySubsequences: false).count - 1
                let closed = html.split(separator: "</\(element)>", omittingEmptySubsequences: false).count - 1
                #expect(opened == closed, "\(element)")
            }
        }
        #expect(!Report(title: "a", summary: "b").html().contains("<section>"))
    }
}
