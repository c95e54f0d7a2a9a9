import Testing

@testable import Configuration

/// What a text holds, written so that two can be compared: texts in quotes where they were quoted.
private func written(_ node: YAMLNode?, depth: Int = 8) -> String {
    guard let node else { return "none" }
    guard depth > 0 else { return "..." }
    switch node.content {
    case .scalar(let text, let isPlain): return isPlain ? text : "'\(text)'"
    case .sequence(let items): return "[" + items.map { written($0, depth: depth - 1) }.joined(separator: ", ") + "]"
    case .mapping(let pairs):
        let texts = pairs.map { written($0.key, depth: depth - 1) + ": " + written($0.value, depth: depth - 1) }
        return "{" + texts.joined(separator: ", ") + "}"
    }
}

@Suite("YAML")
struct YAMLNodeTests {
    /// A text, and what PyYAML's `yaml.compose` makes of it.
    static let known = [
        ("", "none"), ("# nothing but a remark\n", "none"), ("---\n", ""), ("a", "a"), ("'a'", "'a'"),
        ("\"\\u00fc\"", "'ü'"),
        (
            "seed: 7\nrun:\n  epochs: 5 # five\n  names: [a, 'b', {c: d}]\n",
            "{seed: 7, run: {epochs: 5, names: [a, 'b', {c: d}]}}"
        ),
        ("text: |\n  one\n  two\nfolded: >-\n  one\n  two", "{text: 'one\ntwo\n', folded: 'one two'}"),
        ("a: &x [1, 2]\nb: *x", "{a: [1, 2], b: [1, 2]}"), ("empty:\nnext: ~", "{empty: , next: ~}"),
        ("a: {1: 2, '1 ': 3}\nb: {1: 2}", "{a: {1: 2, '1 ': 3}, b: {1: 2}}"), ("? [a, b]\n: c", "{[a, b]: c}"),
        ("a: 1\n...\n", "{a: 1}"), ("%YAML 1.1\n---\na: \u{1F34E}", "{a: \u{1F34E}}"),
    ]

    @Test("a text holds what PyYAML finds in it", arguments: known)
    func read(text: String, content: String) throws { #expect(written(try YAMLNode.parse(text)) == content) }

    @Test("a list that contains itself, and one that doubles thirty times, are as small as their text")
    func aliases() throws {
        #expect(written(try YAMLNode.parse("&a [*a]"), depth: 3) == "[[[...]]]")
        let doubling = (1...30).map { "a\($0): &a\($0) [*a\($0 - 1), *a\($0 - 1)]\n" }.joined()
        let root = try #require(try YAMLNode.parse("a0: &a0 x\n" + doubling))
        guard case .mapping(let pairs) = root.content else { throw YAMLError(line: nil, message: "no mapping") }
        #expect(pairs.count == 31)
    }

    @Test("lines are counted from one")
    func lines() throws {
        guard case .mapping(let pairs)? = try YAMLNode.parse("# first\na: 1\n\nb:\n  c: 2\n")?.content else {
            throw YAMLError(line: nil, message: "no mapping")
        }
        #expect(pairs.map(\.key.line) == [2, 4] && pairs[1].value.line == 5)
    }

    /// A text, the line that is to blame, and a part of what is said of it.
    static let refused: [(String, Int?, String)] = [
        ("a: [1,\n  2\n", 3, "not YAML: did not find expected"), ("a: 1\nb: 2\na: 3\n", 3, "written twice: a"),
        ("x:\n  - {a: 1, 'a': 2}\n", 2, "written twice: a"), ("a: *nowhere\n", 1, "undefined alias"),
        ("a: 1\n---\nb: 2\n", 2, "a second document"), ("a: 1\n\tb: 2\n", 2, "not YAML"),
        ("a: \u{1}\n", nil, "control characters"),
        ("a: b: c\n", 1, "mapping values are not allowed"), (String(repeating: "[", count: 1000), 2, "not YAML"),
    ]

    @Test("what is not one YAML document is refused with its line", arguments: refused)
    func refusals(text: String, line: Int?, message: String) {
        let error = #expect(throws: YAMLError.self) { try YAMLNode.parse(text) }
        #expect(error?.line == line && error?.message.contains(message) == true, "\(error as Any)")
    }
}
