import Foundation
import TestSupport

/// A page of the repository, or the comments of a source file, as the rules of documents read it.
struct Document: Sendable {
    /// Path from the repository's root.
    let name: String
    let lines: [String]
    /// Paragraphs, list items, headings and table rows outside of code blocks.
    let prose: [String]
    /// Lines of fenced and indented code; one that ends in `\` with what follows.
    let code: [String]

    /// - Parameters:
    ///   - name: path from the repository's root.
    ///   - text: Markdown.
    init(_ name: String, _ text: String) {
        self.name = name
        lines = text.components(separatedBy: "\n")
        var (prose, code, block) = ([String](), [String](), [String]())
        var (isFenced, goesOn) = (false, false)
        func close() {
            if !block.isEmpty { prose.append(block.joined(separator: " ")) }
            block = []
        }
        for line in lines {
            let trimmed = line.trimmingCharacters(in: .whitespaces)
            if trimmed.hasPrefix("```") {
                close()
                isFenced.toggle()
            } else if isFenced || line.hasPrefix("    ") && block.isEmpty && !trimmed.isEmpty {
                if goesOn { code[code.count - 1] += trimmed } else { code.append(trimmed) }
                goesOn = trimmed.hasSuffix("\\")
                if goesOn { code[code.count - 1].removeLast() }
            } else {
                let begins = ["|", "#", "- ", "* "].contains { trimmed.hasPrefix($0) } || trimmed.contains(#/^\d+\. /#)
                if trimmed.isEmpty || begins { close() }
                if !trimmed.isEmpty { block.append(trimmed) }
                if trimmed.hasPrefix("#") { close() }
            }
        }
        close()
        (self.prose, self.code) = (prose, code)
    }

    /// The comments of a source file, those of neighbouring lines together.
    init(commentsOf name: String, _ text: String) {
        let comments = text.components(separatedBy: "\n").map { line -> String in
            let trimmed = line.trimmingCharacters(in: .whitespaces)
            return trimmed.hasPrefix("//") ? String(trimmed.drop { $0 == "/" }) : ""
        }
        self.name = name
        lines = []
        prose = comments.split(separator: "").map { $0.joined(separator: " ") }
        code = []
    }

    /// What stands in code font within the prose.
    var spans: [String] {
        prose.flatMap { block in
            block.components(separatedBy: "`").enumerated().filter { $0.offset % 2 == 1 }.map(\.element)
        }
    }

    /// Headings without their marks.
    var headings: [String] {
        prose.filter { $0.hasPrefix("#") }.map { $0.drop { $0 == "#" }.trimmingCharacters(in: .whitespaces) }
    }

    /// The names under which a link reaches its headings: lower case, punctuation gone, hyphens for spaces.
    var anchors: Set<String> {
        Set(
            headings.map { heading in
                String(
                    heading.lowercased().filter { $0.isLetter || $0.isNumber || " -_".contains($0) }
                        .map { $0 == " " ? "-" : $0 })
            })
    }

    // MARK: The repository's

    /// Every file below a folder, by its path from the root; what is built, fixtures and weights are left out.
    static func files(below folder: String) -> [String] {
        let root = "\(Repository.path)/\(folder)"
        let names = FileManager.default.enumerator(atPath: root)?.compactMap { $0 as? String } ?? []
        return names.map { "\(folder)/\($0)" }.filter { !$0.hasPrefix("Tests/Fixtures/") }.sorted()
    }

    static func text(_ name: String) throws -> String {
        try String(contentsOfFile: "\(Repository.path)/\(name)", encoding: .utf8)
    }

    /// All pages.
    static let all: [Document] = {
        let root = (try? FileManager.default.contentsOfDirectory(atPath: Repository.path)) ?? []
        let names = root + files(below: "docs") + files(below: "tools")
        return names.filter { $0.hasSuffix(".md") }.sorted().map { name in
            do { return Document(name, try text(name)) } catch { fatalError("\(name): \(error)") }
        }
    }()

    /// The comments of all Swift files.
    static let comments: [Document] = (files(below: "Sources") + files(below: "Tests")).filter {
        $0.hasSuffix(".swift")
    }
    .map { name in
        do { return Document(commentsOf: name, try text(name)) } catch { fatalError("\(name): \(error)") }
    }
}

extension String {
    /// Whether a part is in it, byte for byte: much quicker than a regular expression, to see whether one is needed.
    func holds(_ part: String) -> Bool {
        let bytes = Array(part.utf8)
        guard let first = bytes.first else { return true }
        return utf8.withContiguousStorageIfAvailable { text in
            text.indices.dropLast(bytes.count - 1).contains { start in
                text[start] == first && text[start..<start + bytes.count].elementsEqual(bytes)
            }
        } ?? contains(part)
    }
}
