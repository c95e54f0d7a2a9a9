/// A regular expression over layer names, as PEFT's `rank_pattern` and `alpha_pattern` hold them.
///
/// It knows text, `.`, `\` before punctuation, `\d`, `\w`, classes, groups, `|`, `*`, `+`, `?`, `^` and `$`, and asks only whether
/// there is a match. Every part takes the set of places where it may begin to the set of those where it may end, so
/// that no expression of a file makes it search for long.
struct LayerPattern {
    private let root: Part

    private indirect enum Part {
        case character(@Sendable (Character) -> Bool)
        case sequence([Part])
        case alternatives([Part])
        case repeated(Part, atLeastOnce: Bool)
        case optional(Part)
        case start
        case end
    }

    /// Reads an expression; nil when it holds anything else.
    init?(_ text: String) {
        guard text.utf8.count <= 4096 else { return nil }
        var parser = Parser(characters: Array(text))
        guard let root = parser.alternatives(depth: 32), parser.offset == parser.characters.count else { return nil }
        self.root = root
    }

    /// PEFT's `get_pattern_key`: `re.match(rf"(.*\.)?({key})$", layer)`.
    func matches(_ layer: String) -> Bool {
        let name = Array(layer)
        let starts = name.indices.filter { name[$0] == "." }.map { $0 + 1 }
        return Self.ends(of: root, from: Set([0] + starts), in: name).contains(name.count)
    }

    private static func ends(of part: Part, from starts: Set<Int>, in name: [Character]) -> Set<Int> {
        switch part {
        case .character(let accepts):
            return Set(starts.filter { $0 < name.count && accepts(name[$0]) }.map { $0 + 1 })
        case .sequence(let parts): return parts.reduce(starts) { ends(of: $1, from: $0, in: name) }
        case .alternatives(let parts):
            return parts.reduce(into: []) { $0.formUnion(ends(of: $1, from: starts, in: name)) }
        case .repeated(let part, let atLeastOnce):
            var reached = atLeastOnce ? ends(of: part, from: starts, in: name) : starts
            var fresh = reached
            while !fresh.isEmpty {
                fresh = ends(of: part, from: fresh, in: name).subtracting(reached)
                reached.formUnion(fresh)
            }
            return reached
        case .optional(let part): return starts.union(ends(of: part, from: starts, in: name))
        case .start: return starts.intersection([0])
        case .end: return starts.intersection([name.count])
        }
    }

    private struct Parser {
        let characters: [Character]
        var offset = 0

        private var next: Character? { offset < characters.count ? characters[offset] : nil }

        private mutating func consume(_ character: Character) -> Bool {
            guard next == character else { return false }
            offset += 1
            return true
        }

        mutating func alternatives(depth: Int) -> Part? {
            guard depth > 0 else { return nil }
            var parts: [Part] = []
            repeat {
                var sequence: [Part] = []
                while let character = next, character != "|", character != ")" {
                    guard let part = repeated(depth: depth) else { return nil }
                    sequence.append(part)
                }
                parts.append(.sequence(sequence))
            } while consume("|")
            return .alternatives(parts)
        }

        private mutating func repeated(depth: Int) -> Part? {
            guard let part = atom(depth: depth) else { return nil }
            let result: Part
            if consume("*") {
                result = .repeated(part, atLeastOnce: false)
            } else if consume("+") {
                result = .repeated(part, atLeastOnce: true)
            } else if consume("?") {
                result = .optional(part)
            } else {
                return part
            }
            // A lazy repetition matches the same names; a second sign or a possessive one is another language.
            _ = consume("?")
            return next.map { "*+?{".contains($0) } == true ? nil : result
        }

        private mutating func atom(depth: Int) -> Part? {
            guard let character = next else { return nil }
            offset += 1
            switch character {
            case ".": return .character { _ in true }
            case "^": return .start
            case "$": return .end
            case "\\": return escape().map(Part.character)
            case "[": return characterClass()
            case "(":
                if consume("?"), !consume(":") { return nil }
                guard let part = alternatives(depth: depth - 1), consume(")") else { return nil }
                return part
            case "*", "+", "?", "{", "}", "]", ")", "|": return nil
            default: return .character { $0 == character }
            }
        }

        private mutating func escape() -> (@Sendable (Character) -> Bool)? {
            guard let character = next else { return nil }
            offset += 1
            switch character {
            case "d": return { $0.isASCII && $0.isNumber }
            case "w": return { $0 == "_" || $0.isLetter || $0.isNumber }
            default:
                guard character.isASCII, !character.isLetter, !character.isNumber else { return nil }
                return { $0 == character }
            }
        }

        private mutating func characterClass() -> Part? {
            let isNegated = consume("^")
            var members: [@Sendable (Character) -> Bool] = []
            while let character = next, character != "]" {
                offset += 1
                if character == "[" { return nil }
                if character == "\\" {
                    guard let member = escape() else { return nil }
                    members.append(member)
                    continue
                }
                if next == "-", offset + 1 < characters.count, characters[offset + 1] != "]" {
                    let last = characters[offset + 1]
                    guard last != "\\", character <= last else { return nil }
                    offset += 2
                    members.append { character <= $0 && $0 <= last }
                } else {
                    members.append { $0 == character }
                }
            }
            guard consume("]"), !members.isEmpty else { return nil }
            let known = members
            return .character { candidate in known.contains { $0(candidate) } != isNegated }
        }
    }
}
