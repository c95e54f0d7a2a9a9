internal import Foundation
import Processes

/// What a finished run shows: one HTML page that needs no other file and no network.
public struct Report: Sendable {
    /// A figure before and after training.
    public struct Comparison: Sendable {
        /// In which direction a figure improves.
        public enum Aim: String, Sendable { case lower, higher, neither }

        /// What is measured.
        public var name: String
        /// Of the base model; nil where it was not measured.
        public var before: Double?
        /// Of the policy that a supervised start left; nil where there was none.
        public var start: Double?
        /// Of the trained model; nil where it was not measured.
        public var after: Double?
        /// In which direction it improves.
        public var aim: Aim
        /// How it is measured, in a few words.
        public var note: String

        /// Makes a comparison.
        public init(
            _ name: String, before: Double?, start: Double? = nil, after: Double?, aim: Aim, note: String = ""
        ) {
            self.name = name
            self.before = before
            self.start = start
            self.after = after
            self.aim = aim
            self.note = note
        }
    }

    /// A picture.
    public struct Sheet: Sendable {
        /// What it shows.
        public var caption: String
        /// The encoded image.
        public var png: [UInt8]

        /// Makes a sheet.
        public init(caption: String, png: [UInt8]) {
            self.caption = caption
            self.png = png
        }
    }

    /// A drawing of curves.
    public struct Chart: Sendable {
        /// What it shows.
        public var title: String
        /// How to read it.
        public var explanation: String
        /// An `<svg>` element that refers to nothing outside itself.
        public var svg: String

        /// Makes a chart.
        public init(title: String, explanation: String, svg: String) {
            self.title = title
            self.explanation = explanation
            self.svg = svg
        }
    }

    /// A figure of the last epoch.
    public struct Figure: Sendable {
        /// The metric's name.
        public var name: String
        /// nil where it is not finite.
        public var value: Double?
        /// As `MetricDescription` has them.
        public var unit: String, meaning: String, healthy: String

        /// Makes a figure.
        public init(name: String, value: Double?, unit: String, meaning: String, healthy: String) {
            self.name = name
            self.value = value
            self.unit = unit
            self.meaning = meaning
            self.healthy = healthy
        }
    }

    /// Where one role's time went.
    public struct RoleTime: Sendable {
        /// The role's name.
        public var name: String
        /// Its seconds by what it did; together the role's wall time.
        public var seconds: [String: Double]

        /// Makes a division.
        public init(name: String, seconds: [String: Double]) {
            self.name = name
            self.seconds = seconds
        }

        /// Since its start.
        public var total: Double { seconds.values.reduce(0, +) }

        /// Its parts, the longest first.
        var parts: [(activity: String, seconds: Double)] {
            seconds.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map { ($0.key, $0.value) }
        }
    }

    /// The page's heading.
    public var title: String
    /// One sentence below it.
    public var summary: String
    /// Figures before and after.
    public var comparisons: [Comparison] = []
    /// What they say, a sentence each.
    public var findings: [String] = []
    /// What was found wrong during the run, a sentence each.
    public var alarms: [String] = []
    /// Pictures, usually before and after; shown side by side in pairs.
    public var sheets: [Sheet] = []
    /// Curves.
    public var charts: [Chart] = []
    /// The last epoch's metrics.
    public var figures: [Figure] = []
    /// Where the roles' time went.
    public var roles: [RoleTime] = []
    /// Versions, machine, duration: names with values.
    public var facts: [(name: String, value: String)] = []
    /// The complete settings.
    public var settings: String = ""

    /// An empty report.
    public init(title: String, summary: String) {
        self.title = title
        self.summary = summary
    }

    /// The page.
    public func html() -> String {
        """
        <!DOCTYPE html>
        <html lang="en">
        <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
        <title>\(escaped(title))</title>
        <style>
        \(Self.style)
        </style>
        </head>
        <body>
        <header>
        <h1>\(escaped(title))</h1>
        <p>\(escaped(summary))</p>
        </header>
        <main>
        \([comparisonSection, alarmSection, sheetSection, chartSection, figureSection, roleSection, factSection, settingsSection].joined())
        </main>
        </body>
        </html>

        """
    }

    private func section(_ heading: String, _ content: String, isEmpty: Bool) -> String {
        isEmpty ? "" : "<section>\n<h2>\(heading)</h2>\n\(content)\n</section>\n"
    }

    private var comparisonSection: String {
        let hasStart = comparisons.contains { $0.start != nil }
        let rows = comparisons.map { row in
            let note = row.note.isEmpty ? "" : "<small>\(escaped(row.note))</small>"
            return "<tr><th scope=\"row\">\(escaped(row.name))\(note)</th><td>\(Self.number(row.before))</td>"
                + (hasStart ? "<td>\(Self.number(row.start))</td>" : "")
                + "<td>\(Self.number(row.after))</td>\(Self.change(row))</tr>"
        }
        let head =
            "<tr><th>figure</th><th>before</th>\(hasStart ? "<th>supervised start</th>" : "")<th>after</th><th>change</th></tr>"
        let table =
            "<table class=\"figures\"><thead>\(head)</thead>\n<tbody>\(rows.joined(separator: "\n"))</tbody></table>"
        let sentences = findings.map { "\n<p>\(escaped($0))</p>" }.joined()
        return section("Before and after", table + sentences, isEmpty: comparisons.isEmpty)
    }

    private var alarmSection: String {
        let list = "<ul>\(alarms.map { "<li>\(escaped($0))</li>" }.joined(separator: "\n"))</ul>"
        return section("Alarms", list, isEmpty: alarms.isEmpty)
    }

    private var sheetSection: String {
        let figures = sheets.map { sheet in
            let data = Data(sheet.png).base64EncodedString()
            return "<figure><img alt=\"\(escaped(sheet.caption))\" src=\"data:image/png;base64,\(data)\">"
                + "<figcaption>\(escaped(sheet.caption))</figcaption></figure>"
        }
        let content = "<div class=\"pairs\">\(figures.joined(separator: "\n"))</div>"
        return section("Pictures", content, isEmpty: sheets.isEmpty)
    }

    private var chartSection: String {
        let figures = charts.map { chart in
            "<figure><h3>\(escaped(chart.title))</h3>\(chart.svg)"
                + "<figcaption>\(plain(chart.explanation))</figcaption></figure>"
        }
        let content = "<div class=\"pairs\">\(figures.joined(separator: "\n"))</div>"
        return section("Curves", content, isEmpty: charts.isEmpty)
    }

    private var figureSection: String {
        let rows = figures.map { figure in
            let note = "<small>\(plain(figure.meaning))</small>"
            return "<tr><th scope=\"row\">\(escaped(figure.name))\(note)</th><td>\(Self.number(figure.value))</td>"
                + "<td>\(escaped(figure.unit))</td><td>\(plain(figure.healthy))</td></tr>"
        }
        let head = "<tr><th>metric</th><th>value</th><th>unit</th><th>healthy</th></tr>"
        let table = "<table><thead>\(head)</thead>\n<tbody>\(rows.joined(separator: "\n"))</tbody></table>"
        let content =
            "<details><summary>all \(figures.count), what they are, what is healthy</summary>\(table)</details>"
        return section("The last epoch", content, isEmpty: figures.isEmpty)
    }

    private var roleSection: String {
        let rows = roles.map { role in
            let total = max(role.total, 1e-9)
            let parts = role.parts.enumerated().map { index, part in
                let share = part.seconds / total * 100
                return String(
                    format: "<span class=\"part%d\" style=\"width:%.2f%%\" title=\"%@ %.1f s\"></span>", index % 6,
                    share,
                    escaped(part.activity), part.seconds)
            }
            let shares = role.parts.enumerated().map { index, part in
                "<span class=\"key part\(index % 6)\"></span>"
                    + escaped(part.activity) + String(format: " %.1f%%", part.seconds / total * 100)
            }
            return "<tr><th scope=\"row\">\(escaped(role.name))</th>"
                + String(format: "<td>%.1f s</td>", role.total)
                + "<td><div class=\"bar\">\(parts.joined())</div><small>\(shares.joined(separator: ", "))</small></td></tr>"
        }
        let head = "<tr><th>role</th><th>since its start</th><th>share of it</th></tr>"
        let table =
            "<table class=\"roles\"><thead>\(head)</thead>\n<tbody>\(rows.joined(separator: "\n"))</tbody></table>"
        return section("Where the time went", table, isEmpty: roles.isEmpty)
    }

    private var factSection: String {
        let rows = facts.map { "<tr><th scope=\"row\">\(escaped($0.name))</th><td>\(escaped($0.value))</td></tr>" }
        return section(
            "Run", "<table class=\"facts\"><tbody>\(rows.joined(separator: "\n"))</tbody></table>",
            isEmpty: facts.isEmpty)
    }

    private var settingsSection: String {
        let content = "<details><summary>settings.yaml</summary><pre>\(escaped(settings))</pre></details>"
        return section("Settings", content, isEmpty: settings.isEmpty)
    }

    /// Four significant digits.
    static func number(_ value: Double?) -> String {
        guard let value, value.isFinite else { return "&ndash;" }
        return String(format: "%.4g", value)
    }

    /// The change in per cent, and in words whether it is for the better.
    private static func change(_ row: Comparison) -> String {
        guard let before = row.before, let after = row.after, before.isFinite, after.isFinite, before != 0 else {
            return "<td>&ndash;</td>"
        }
        let percent = (after - before) / abs(before) * 100
        let text = String(format: "%+.1f%%", percent)
        let improves: Bool? =
            switch row.aim {
            case .lower where percent != 0: percent < 0
            case .higher where percent != 0: percent > 0
            default: nil
            }
        guard let improves else { return "<td>\(text)</td>" }
        return "<td class=\"\(improves ? "better" : "worse")\">\(text) \(improves ? "better" : "worse")</td>"
    }

    /// A phrase of Markdown without its code marks.
    private func plain(_ markdown: String) -> String { escaped(markdown.replacing("`", with: "")) }

    private func escaped(_ text: String) -> String {
        text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
            .replacing("\"", with: "&quot;")
    }

    private static let style = """
        :root { color-scheme: light; --ink: #1c1f24; --soft: #5b6472; --line: #dfe3e8; --paper: #ffffff; --page: #f5f6f8; }
        * { box-sizing: border-box; }
        body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
        header, main { max-width: 72rem; margin: 0 auto; padding: 1.5rem 1rem 0; }
        main { padding-bottom: 3rem; }
        h1 { font-size: 1.7rem; line-height: 1.2; margin: 0; }
        h2 { font-size: 1.15rem; margin: 0 0 .8rem; }
        h3 { font-size: .95rem; margin: 0 0 .4rem; }
        header p, figcaption, section > p, small { color: var(--soft); }
        header p { margin: .4rem 0 0; }
        section { background: var(--paper); border: 1px solid var(--line); border-radius: 10px; padding: 1.1rem 1.2rem;
          margin-top: 1.2rem; overflow-x: auto; }
        section > p { margin: .6rem 0 0; font-size: .85rem; }
        table { border-collapse: collapse; width: 100%; }
        th, td { text-align: left; padding: .4rem .9rem .4rem 0; border-bottom: 1px solid var(--line); vertical-align: top;
          font-weight: normal; }
        tbody tr:last-child > * { border-bottom: 0; }
        thead th { color: var(--soft); font-size: .85rem; }
        .figures tbody th { font-weight: 600; }
        .figures td, .figures thead th:not(:first-child) { text-align: right; font-variant-numeric: tabular-nums; }
        .facts th { color: var(--soft); white-space: nowrap; width: 1%; padding-right: 2rem; }
        .facts td { overflow-wrap: anywhere; }
        small { display: block; font-weight: normal; font-size: .8rem; }
        .better { color: #12703a; }
        .worse { color: #a4262c; }
        .pairs { display: grid; grid-template-columns: 1fr; gap: 1.2rem; }
        @media (min-width: 52rem) { .pairs { grid-template-columns: 1fr 1fr; } }
        figure { margin: 0; }
        figure img, figure svg { display: block; width: 100%; height: auto; }
        figure img { image-rendering: pixelated; border: 1px solid var(--line); border-radius: 6px; }
        figcaption { font-size: .85rem; margin-top: .35rem; }
        .roles th[scope] { white-space: nowrap; width: 1%; } .roles td:last-child { width: 100%; padding-right: 0; }
        .roles td:nth-child(2) { white-space: nowrap; font-variant-numeric: tabular-nums; }
        .bar { display: flex; height: 1.1rem; border-radius: 5px; overflow: hidden; background: var(--line); }
        .part0 { background: #1f6fb2; } .part1 { background: #c77700; } .part2 { background: #2e8b57; }
        .part3 { background: #8a3ea8; } .part4 { background: #a4262c; } .part5 { background: #9aa5b1; }
        .key { display: inline-block; width: .8em; height: .8em; border-radius: 3px; margin-right: .35em; }
        summary { cursor: pointer; }
        pre { font: .82rem/1.45 ui-monospace, monospace; overflow-x: auto; margin: .6rem 0 0; }
        """
}
