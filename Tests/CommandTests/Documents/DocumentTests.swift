import Foundation
import TestSupport
import Testing

/// What pages and comments speak of exists.
@Suite("Documents", .timeLimit(.minutes(2)))
struct DocumentTests {
    private static let knowledge = Task { () throws -> DocumentKnowledge in
        let folder = FileManager.default.temporaryDirectory.path + "/documents-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let overview = try await RunningProcess(["--help"], folder: folder, name: "help").finish().output
        var commands = ["help": overview]
        for match in overview.components(separatedBy: "SUBCOMMANDS:").last!.matches(of: #/(?m)^  ([a-z][a-z-]*) /#) {
            let command = String(match.1)
            commands[command] = try await RunningProcess(["help", command], folder: folder, name: command).finish()
                .output
        }
        return try DocumentKnowledge(commands: commands)
    }

    @Test("every page and comment keeps the rule", arguments: DocumentRule.all)
    func documents(rule: DocumentRule) async throws {
        let known = try await Self.knowledge.value
        for document in Document.all + (rule.readsComments ? Document.comments : []) {
            let problems = rule.problems(document, known)
            #expect(problems.isEmpty, "\(document.name): \(rule): \(problems.joined(separator: "; "))")
        }
    }

    @Test("a rule finds what breaks it, and nothing else", arguments: DocumentRule.all)
    func rules(rule: DocumentRule) async throws {
        let known = try await Self.knowledge.value
        #expect(!rule.problems(Document("README.md", rule.examples.bad), known).isEmpty)
        #expect(rule.problems(Document("README.md", rule.examples.good), known) == [])
    }

    @Test("there is enough to look at")
    func knowledge() async throws {
        let known = try await Self.knowledge.value
        #expect(known.commands.count >= 15 && known.settings.count > 80 && known.metrics.count > 40)
        #expect(known.sections.isSuperset(of: ["1.1", "1.16", "3.4", "3.6", "4.9", "4.15", "4.25", "5"]))
        #expect(Document.all.count > 30 && Document.comments.count > 300)
        #expect(Document.all.map(\.spans.count).reduce(0, +) > 1_000)
    }

    @Test("decisions are numbered without a hole")
    func decisions() async throws {
        let known = try await Self.knowledge.value
        #expect(known.decisions.sorted() == (1...known.decisions.count).map { String(format: "%03d", $0) })
    }

    @Test("every setting's source is a section that exists")
    func sources() async throws {
        let known = try await Self.knowledge.value
        let text = try Document.text("docs/settings.md")
        let cited = text.matches(of: #/method ((?:\d+\.\d+(?:, )?)+)/#).flatMap { $0.1.split(separator: ", ") }
        #expect(cited.count > 60)
        #expect(cited.filter { !known.sections.contains(String($0)) } == [])
    }

    @Test("every metric of the page is written somewhere, and every one written is on the page")
    func metrics() async throws {
        let known = try await Self.knowledge.value
        let unwritten = known.metrics.filter { name in
            guard let dot = name.lastIndex(of: ".") else { return !known.words.contains(name) }
            let family =
                ["NAME", "PHASE", "STEP"].contains { known.literals.contains("\(name[..<dot]).\($0)") }
                && known.words.contains(String(name[dot...].dropFirst()))
            return !known.literals.contains(name) && !family
        }
        #expect(unwritten.isEmpty, "nobody writes \(unwritten.sorted())")
        let written = Set(try await UndisturbedRun.shared.result.metrics.flatMap(\.keys))
        #expect(written.count > 20)
        #expect(written.subtracting(known.metrics) == [])
    }

    @Test("no file of the repository has a machine's path in it or names a page that does not exist")
    func machines() throws {
        let folders = ["docs", "tools", "dev", "deploy", "Sources", ".ci"]
        var count = 0
        for name in folders.flatMap(Document.files(below:)) + ["Makefile", "Package.swift"] {
            guard let text = try? Document.text(name) else { continue }
            count += 1
            if ["/work/", "/home/", "/tmp/", "/root/", "/Users/"].contains(where: text.holds) {
                let found = text.matches(of: #/[^\w./)\]]/(work|home|tmp|root|Users)/.{0,40}/#).map { String($0.0) }
                #expect(found == [], "\(name)")
            }
            guard text.holds("/docs/") else { continue }
            let pages = text.matches(of: #/docs/[\w/-]+\.md/#).map { String($0.0) }
            #expect(
                pages.filter { !FileManager.default.fileExists(atPath: "\(Repository.path)/\($0)") } == [], "\(name)")
        }
        #expect(count > 300)
    }

    @Test("every fixture is read by a test")
    func fixtures() throws {
        let tests = try Document.files(below: "Tests").filter { $0.hasSuffix(".swift") }.map(Document.text)
        let names = try FileManager.default.contentsOfDirectory(atPath: Repository.fixtures)
        #expect(names.count > 20)
        for name in names where name != "manifest.json" {
            let isRead = tests.contains { $0.holds("\"" + name) || $0.holds("/" + name) }
            #expect(isRead, "Tests/Fixtures/\(name): no test names it; remove it with its script, or read it")
        }
    }
}
