import Foundation
import TestSupport
import Testing

/// Something that holds for every document, with what breaks it.
struct DocumentRule: Sendable, CustomTestStringConvertible {
    let testDescription: String
    /// A text that breaks the rule and one that does not.
    let examples: (bad: String, good: String)
    /// Whether comments of the code are read as well as pages.
    let readsComments: Bool
    /// What breaks the rule.
    let problems: @Sendable (Document, DocumentKnowledge) -> [String]

    init(
        _ description: String, bad: String, good: String, comments: Bool = false,
        _ problems: @escaping @Sendable (Document, DocumentKnowledge) -> [String]
    ) {
        testDescription = description
        examples = (bad, good)
        readsComments = comments
        self.problems = problems
    }

    static let all: [DocumentRule] = [
        .init(
            "lines have at most 120 columns, tables and addresses aside", bad: String(repeating: "word ", count: 30),
            good: "| " + String(repeating: "word ", count: 30)
        ) { document, _ in
            document.lines.filter {
                $0.utf8.count > 120 && $0.count > 120 && !$0.hasPrefix("|") && !$0.contains("://")
            }
        },
        .init("no path of a machine", bad: "in `/" + "work/x`", good: "in `docs/work/x`") { document, _ in
            let path = #/(^|[^\w./)\]])/(work|home|tmp|root|Users)//#
            return document.lines.filter { $0.holds("/") && $0.contains(path) }
        },
        .init(
            "sections of the method exist", bad: "as in method.md 1.9 and 9.9", good: "(method.md 1.9 to 1.12, 4.1)",
            comments: true
        ) { document, known in
            let numbers = #/method(?:\.md)? (?:section )?(\d+(?:\.\d+)?(?:(?:, | to | and )\d+(?:\.\d+)?)*)/#
            return document.prose.filter { $0.holds("method") }.flatMap { block in
                block.matches(of: numbers).flatMap { $0.1.matches(of: #/\d+(\.\d+)?/#).map { String($0.0) } }
            }.filter { !known.sections.contains($0) }
        },
        .init("decisions exist", bad: "[decision 999](x)", good: "decisions/005 and decision 007", comments: true) {
            document, known in
            let number = #/[Dd]ecisions?[ /](\d{3})/#
            return document.prose.filter { $0.holds("ecision") }.flatMap { block in
                block.matches(of: number).map { String($0.1) }
            }.filter { !known.decisions.contains($0) }
        },
        .init(
            "names in code font are names of the code", bad: "`NoSuchThing`", good: "`Epoch.run`", comments: true
        ) {
            document, known in
            // What is known needs no look at whether it is a name.
            let (name, snake) = (#/[a-z][A-Z]|[A-Z]{2}[a-z]|^ADVGRPO_/#, #/[a-z0-9]_[a-z]/#)
            return document.spans.flatMap { span in
                DocumentKnowledge.words(in: span).filter { word in
                    !known.words.contains(word) && !DocumentKnowledge.foreign.contains(word)
                        && (word.contains(name) || !document.lines.isEmpty && word.contains(snake))
                }
            }
        },
        .init(
            "settings and metrics exist", bad: "`rollout.stepz`",
            good: "`rollout.steps=4`, `policy.loss`, `run.evaluation`"
        ) {
            document, known in
            let names = known.settings.union(known.metrics)
            let roots = Set(names.filter { $0.contains(".") }.map { $0.prefix { $0 != "." } })
            return document.spans.flatMap { span in
                span.matches(of: #/(?:^|[\s,(])([a-zA-Z]+(?:\.[a-zA-Z0-9_]+)+)(?=[=:,\s)]|$)/#).map { String($0.1) }
            }.filter { name in
                // NAME stands for any.
                let parts = name.split(separator: ".").prefix { $0 != $0.uppercased() }
                if ["json", "key", "lock", "pub", "safetensors", "yaml"].contains(parts.last) { return false }
                guard let root = parts.first, roots.contains(root) else { return false }
                let known = parts.joined(separator: ".")
                return !names.contains { $0 == known || $0.hasPrefix(known + ".") }
            }
        },
        .init(
            "commands and their options exist", bad: "`advgrpo train --fastest`",
            good: "`advgrpo train S.yaml --resume`"
        ) {
            document, known in
            (document.code + document.spans).flatMap { line -> [String] in
                line.components(separatedBy: "#")[0].matches(of: #/(?:^|[ /])advgrpo ([a-z][a-z-]*)([^|;&]*)/#).flatMap
                {
                    use -> [String] in
                    guard let help = known.commands[String(use.1)] else { return ["advgrpo \(use.1)"] }
                    return use.2.matches(of: #/(?:^| )(--[a-z-]+)/#).map { String($0.1) }
                        .filter { !DocumentRule.offers(help, $0) }.map { "advgrpo \(use.1) \($0)" }
                }
            }
        },
        .init("options in code font exist", bad: "`--no-such-option`", good: "`--resume`") { document, known in
            document.spans.compactMap { try? #/^(--[a-z][a-z-]*)/#.firstMatch(in: $0).map { String($0.1) } }.filter {
                option in
                !known.commands.values.contains { DocumentRule.offers($0, option) }
                    && !known.literals.contains(option)
            }
        },
        .init(
            "links lead to files and headings", bad: "[x](docs/method.md#nowhere)",
            good: "[x](docs/method.md#5-presets)"
        ) {
            document, _ in
            let link = #/\]\(([^)\s]+)\)/#
            return document.prose.filter { $0.holds("](") }.flatMap { $0.matches(of: link).map { String($0.1) } }
                .filter { !$0.contains("://") && !DocumentRule.leads($0, from: document) }
        },
        .init(
            "files of the repository that are named exist", bad: "docs/nowhere.md",
            good: "`Sources/AdvGRPO/FlowStep.swift`, tools/goldens/make; Sources/{A,B}, docs/*.md", comments: true
        ) { document, _ in
            let file = DocumentRule.repositoryFile
            return document.prose.filter { $0.holds("/") }.flatMap { block in
                block.matches(of: file).map { String($0.1) }
            }.filter { !FileManager.default.fileExists(atPath: "\(Repository.path)/\($0)") }
        },
    ]

    /// A file or folder below one of the repository's; not one with wild cards or of another program.
    static var repositoryFile: Regex<(Substring, Substring)> {
        #/(?:^|[\s`("])((?:docs|Sources|Tests|tools|deploy|dev|Models)/[\w.+/-]*\w)(?![\w{*<\\/.-]*[{*<\\])/#
    }

    private static func offers(_ help: String, _ option: String) -> Bool {
        help.contains(option + " ") || help.contains(option + "\n") || help.contains(option + "]")
            || help.contains(option + ",") || help.contains(option + "/")
    }

    private static func leads(_ target: String, from document: Document) -> Bool {
        let parts = target.split(separator: "#", omittingEmptySubsequences: false)
        let folder = URL(fileURLWithPath: "\(Repository.path)/\(document.name)").deletingLastPathComponent()
        let path = parts[0].isEmpty ? "\(Repository.path)/\(document.name)" : folder.path + "/" + parts[0]
        guard FileManager.default.fileExists(atPath: path) else { return false }
        if parts.count == 1 { return true }
        guard let text = try? String(contentsOfFile: path, encoding: .utf8) else { return false }
        return Document("", text).anchors.contains(String(parts[1]))
    }
}
