/// Everything that is wrong with a settings file and its overrides, at once.
public struct SettingsError: Error, Sendable, Equatable, CustomStringConvertible {
    /// One thing that is wrong.
    public struct Problem: Sendable, Equatable, CustomStringConvertible {
        /// Where it was written: a line of the file, `--set`, or a default.
        public enum Origin: Sendable, Equatable {
            case file(line: Int?)
            case override
            case preset
        }

        /// Where it was written.
        public let origin: Origin
        /// The dotted path; empty when the file as a whole is meant.
        public let path: String
        /// What was expected and what to do.
        public let message: String

        public var description: String {
            let place =
                switch origin {
                case .file(line: let line?): "line \(line): "
                case .file(line: nil), .preset: ""
                case .override: "--set: "
                }
            return place + (path.isEmpty ? message : "\(path) \(message)")
        }
    }

    /// The settings file.
    public let file: String
    /// Its problems, in file order, then those of the overrides.
    public let problems: [Problem]

    public var description: String {
        if problems.count == 1 { return "\(file): \(problems[0])" }
        return "\(file): \(problems.count) problems" + problems.map { "\n  \($0)" }.joined()
    }
}

/// Finds the key that was probably meant.
enum Spelling {
    /// The nearest candidate to a misspelt path, or nil if none is near.
    ///
    /// Keys under the same group come first; a key of the right name in another group counts as one mistake.
    static func nearest(to path: String, among candidates: [String]) -> String? {
        let (group, name) = split(path)
        var best: (path: String, distance: Int)?
        for candidate in candidates {
            let (candidateGroup, candidateName) = split(candidate)
            let distance = min(
                editDistance(path, candidate),
                editDistance(name, candidateName) + (candidateGroup == group ? 0 : 1))
            if distance < best?.distance ?? .max { best = (candidate, distance) }
        }
        guard let best, best.distance <= max(2, name.count / 3) else { return nil }
        return best.path
    }

    private static func split(_ path: String) -> (group: Substring, name: String) {
        guard let dot = path.lastIndex(of: ".") else { return ("", path.lowercased()) }
        return (path[..<dot], path[path.index(after: dot)...].lowercased())
    }

    /// Insertions, deletions, replacements and swaps of neighbours that turn one text into the other.
    static func editDistance(_ a: String, _ b: String) -> Int {
        let a = Array(a.unicodeScalars)
        let b = Array(b.unicodeScalars)
        var beforeLast = [Int](repeating: 0, count: b.count + 1)
        var last = Array(0...b.count)
        for i in 0..<a.count {
            var row = [i + 1] + [Int](repeating: 0, count: b.count)
            for j in 0..<b.count {
                row[j + 1] = min(last[j + 1] + 1, row[j] + 1, last[j] + (a[i] == b[j] ? 0 : 1))
                if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] {
                    row[j + 1] = min(row[j + 1], beforeLast[j - 1] + 1)
                }
            }
            (beforeLast, last) = (last, row)
        }
        return last[b.count]
    }
}
