import Foundation
import TestSupport

/// What a document may speak of: names of the code, sections, settings, metrics, commands.
struct DocumentKnowledge: Sendable {
    /// Numbers of the headings of docs/method.md.
    var sections: Set<String>
    /// Numbers of the pages in docs/decisions.
    var decisions: Set<String>
    /// Keys of docs/settings.md, which a test holds to their declarations.
    var settings: Set<String>
    /// Names of docs/metrics.md.
    var metrics: Set<String>
    /// Every identifier of the code, its scripts and file names, comments left out.
    var words: Set<String>
    /// What stands between two quotes in the code, for what is not an identifier.
    var literals: Set<String>
    /// What `advgrpo help COMMAND` says.
    var commands: [String: String]

    /// Names of other people's programs that documents and comments speak of.
    static let foreign: Set<String> = [
        "AdaLayerNormContinuous", "CLIPEncoderLayer", "CLIPVisionModel", "FlopCounterMode", "GluMlp", "LayerScale",
        "PilBackend", "RotaryEmbeddingDinoV3", "SiglipEncoderLayer", "SiglipImageProcessor",
        "SiglipMultiheadAttentionPoolingHead", "SiglipTextModel", "SiglipVisionModel", "arch_prctl", "gAMA",
        "XXH3_kSecret", "libImaging",
    ]

    /// The repository's.
    ///
    /// - Parameter commands: what the program's help says of each command.
    init(commands: [String: String]) throws {
        self.commands = commands
        let headings = Document("docs/method.md", try Document.text("docs/method.md")).headings
        sections = Set(headings.compactMap { try? #/^(\d+(\.\d+)?)\.? /#.firstMatch(in: $0).map { String($0.1) } })
        decisions = Set(
            Document.files(below: "docs/decisions").compactMap {
                try? #/decisions/(\d{3})-/#.firstMatch(in: $0).map { String($0.1) }
            })
        settings = Set(Self.firstColumn(of: try Document.text("docs/settings.md")))
        // NAME stands for every component of the reward, PHASE for what a worker times, STEP for a step of the schedule.
        let components = settings.compactMap { $0.wholeMatch(of: #/reward\.weights\.(\w+)/#).map { String($0.1) } }
        metrics = Set(
            Self.firstColumn(of: try Document.text("docs/metrics.md")).flatMap { name in
                switch name {
                case "reward.NAME": components.map { "reward.\($0)" }
                case "seconds.worker.PHASE": ["sample", "decode", "score"].map { "seconds.worker.\($0)" }
                case "policy.drift.STEP": ["policy.drift.0"]
                default: [name]
                }
            })
        let fixtures = FileManager.default.enumerator(atPath: Repository.fixtures)?.compactMap { $0 as? String } ?? []
        var (words, literals) = (Self.words(in: fixtures.joined(separator: "/")), Set<String>())
        let folders = ["Sources", "Tests", "Models", "deploy", "dev", "tools", ".ci"]
        let files = ["Package.swift", "Makefile", "docs/examples/health.py", "docs/examples/reward.py"]
        for name in folders.flatMap(Document.files(below:)) + files {
            words.formUnion(Self.words(in: name))
            guard !name.hasSuffix(".md"), var text = try? Document.text(name) else { continue }
            if [".swift", ".c", ".h"].contains(where: { name.hasSuffix($0) }) { text = Self.withoutComments(text) }
            // The rules' own examples are of things that do not exist.
            if name.hasPrefix("Tests/CommandTests/Documents/") { continue }
            words.formUnion(Self.words(in: text))
            if !name.hasPrefix("Tests/") { literals.formUnion(Self.literals(in: text)) }
        }
        (self.words, self.literals) = (words, literals)
    }

    /// The names in the first column of every table, `a.b`, `.c` read as a.b and a.c.
    static func firstColumn(of text: String) -> [String] {
        text.components(separatedBy: "\n").filter { $0.hasPrefix("| `") }.flatMap { row -> [String] in
            let cell = row.components(separatedBy: "|")[1]
            var base = ""
            return cell.components(separatedBy: "`").enumerated().filter { $0.offset % 2 == 1 }.map { _, name in
                if name.hasPrefix(".") { return base + name }
                base = name.split(separator: ".").dropLast().joined(separator: ".")
                return name
            }
        }
    }

    /// Every text between one quote and the next: literals, and what is between two of them.
    private static func literals(in text: String) -> Set<String> {
        let parts = text.utf8.split(separator: UInt8(ascii: "\""), omittingEmptySubsequences: false)
        return Set(parts.dropFirst().dropLast().map { String(Substring($0)) })
    }

    private static func withoutComments(_ text: String) -> String {
        text.components(separatedBy: "\n").map { line in
            guard let comment = line.range(of: "//"),
                comment.lowerBound == line.startIndex
                    || line[line.index(before: comment.lowerBound)] == " "
            else { return line }
            return String(line[..<comment.lowerBound])
        }.joined(separator: "\n")
    }

    static func words(in text: String) -> Set<String> {
        func isPart(_ byte: UInt8) -> Bool {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"): true
            case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"): true
            default: false
            }
        }
        return Set(text.utf8.split { !isPart($0) }.map { String(Substring($0)) })
    }
}
