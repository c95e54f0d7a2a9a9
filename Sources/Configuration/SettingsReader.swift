internal import AdvGRPO
internal import Foundation
internal import Platform

/// Collects what file and overrides say, and everything that is wrong with it.
struct SettingsReader {
    private(set) var problems: [SettingsError.Problem] = []
    private var entries: [(path: String, value: SettingValue, origin: SettingsError.Problem.Origin)] = []
    private let descriptions: [String: SettingDescription]
    private let groups: Set<String>
    /// Groups whose keys are names of one's own.
    private let namingGroups: Set<String>

    init() {
        let keys = Settings.keys.map(\.description)
        descriptions = Dictionary(uniqueKeysWithValues: keys.map { ($0.path, $0) })
        groups = Set(
            keys.flatMap { key in
                let parts = key.path.split(separator: ".")
                return (1..<max(1, parts.count)).map { parts.prefix($0).joined(separator: ".") }
            })
        let ending = "." + SettingDescription.anyName
        namingGroups = Set(groups.filter { $0.hasSuffix(ending) }.map { String($0.dropLast(ending.count)) })
    }

    /// A path as it is declared, where every name of one's own is `NAME`, and that name.
    private func declared(_ path: String) -> (path: String, name: String?) {
        for group in namingGroups where path.hasPrefix(group + ".") {
            let rest = path.dropFirst(group.count + 1)
            let name = rest.prefix { $0 != "." }
            if !name.isEmpty {
                return ("\(group).\(SettingDescription.anyName)\(rest.dropFirst(name.count))", String(name))
            }
        }
        return (path, nil)
    }

    /// Reads the file's text.
    mutating func read(_ text: String) {
        do throws(YAMLError) {
            guard let root = try YAMLNode.parse(text), !root.content.isNull else { return }
            guard case .mapping = root.content else {
                problems.append(
                    .init(origin: .file(line: root.line), path: "", message: "must hold keys with values"))
                return
            }
            collect(root.content, path: "", isOverride: false)
        } catch {
            problems.append(.init(origin: .file(line: error.line), path: "", message: error.message))
        }
    }

    /// Reads one `key.path=value`.
    mutating func readOverride(_ text: String) {
        guard let equals = text.firstIndex(of: "="), equals > text.startIndex else {
            problems.append(.init(origin: .override, path: "", message: "\(text) must have the form key.path=value"))
            return
        }
        let path = text[..<equals].trimmingCharacters(in: .whitespaces)
        let value = text[text.index(after: equals)...]
        do throws(YAMLError) {
            collect(entry: path, try YAMLNode.parse(String(value))?.content ?? .nothing, at: .override)
        } catch {
            problems.append(.init(origin: .override, path: path, message: "has a value that is not YAML: \(value)"))
        }
    }

    /// The preset with all readable entries applied; its violations join the problems.
    mutating func settings() -> Settings {
        var fidelity = Fidelity.fixed
        if case .text(let word)? = entries.last(where: { $0.path == "fidelity" })?.value {
            fidelity = Fidelity(rawValue: word) ?? fidelity
        }
        let preset = Settings(fidelity: fidelity)
        var tree = preset.tree()
        for entry in entries {
            let path = entry.path.split(separator: ".")
            // A name without keys is there, and takes nothing from what it has elsewhere.
            if case .mapping = entry.value, tree[path] != nil { continue }
            tree[path] = entry.value
        }
        do {
            let settings = try JSONDecoder().decode(Settings.self, from: JSONEncoder().encode(tree))
            for violation in settings.validate() {
                problems.append(
                    .init(origin: origin(of: violation.path), path: violation.path, message: violation.message))
            }
            return settings
        } catch {
            // Kinds were checked entry by entry, so only a list of the wrong length gets here.
            problems.append(.init(origin: .file(line: nil), path: "", message: "cannot be read: \(error)"))
            return preset
        }
    }

    private func origin(of path: String) -> SettingsError.Problem.Origin {
        let own = entries.last { $0.path == path || $0.path.hasPrefix(path + ".") }
        // What a name of one's own lacks is missing where the name is.
        return (own ?? entries.last { path.hasPrefix($0.path + ".") })?.origin ?? .preset
    }

    private mutating func collect(_ mapping: YAMLNode.Content, path: String, isOverride: Bool) {
        guard case .mapping(let pairs) = mapping else { return }
        for (key, value) in pairs {
            let place: SettingsError.Problem.Origin = isOverride ? .override : .file(line: key.line)
            if let name = key.content.text {
                collect(entry: path.isEmpty ? name : "\(path).\(name)", value.content, at: place)
            } else {
                problems.append(.init(origin: place, path: path, message: "holds a key that is not text"))
            }
        }
    }

    private mutating func collect(entry path: String, _ node: YAMLNode.Content, at place: SettingsError.Problem.Origin)
    {
        let (declared, name) = declared(path)
        if let description = descriptions[declared] {
            guard var value = SettingValue(node, as: description.kind) else {
                problems.append(
                    .init(
                        origin: place, path: path,
                        message: "must be \(description.expectation), not \(node.shortDescription)"))
                return
            }
            if description.kind == .path, case .text(let text) = value {
                do throws(FileError) {
                    value = .text(try HomeFolder.expanded(text))
                } catch {
                    problems.append(
                        .init(origin: place, path: path, message: "\(text): \(error.message); \(error.remedy)"))
                }
            }
            entries.append((path, value, place))
        } else if groups.contains(declared) {
            if name != nil { entries.append((path, .mapping([:]), place)) }
            if case .mapping = node {
                collect(node, path: path, isOverride: place == .override)
            } else if !node.isNull {
                problems.append(
                    .init(origin: place, path: path, message: "must hold keys, not \(node.shortDescription)"))
            }
        } else {
            let nearest = Spelling.nearest(to: declared, among: descriptions.keys.sorted() + groups.sorted())
            let hint = nearest.map { "did you mean \(named($0, name))?" } ?? known(beside: declared, name)
            problems.append(.init(origin: place, path: path, message: "is not a setting; \(hint)"))
        }
    }

    /// A declared path with a name for `NAME`, where there is one.
    private func named(_ path: String, _ name: String?) -> String {
        guard let name else { return path }
        return path.split(separator: ".").map { $0 == SettingDescription.anyName ? name : String($0) }
            .joined(separator: ".")
    }

    /// The keys of the group that a declared path is in, or where they are listed.
    private func known(beside path: String, _ name: String?) -> String {
        let group = path.split(separator: ".").dropLast().joined(separator: ".")
        guard groups.contains(group) else { return "docs/settings.md lists all keys" }
        let names = Settings.keys.map(\.description.path).filter { $0.hasPrefix(group + ".") }
            .map { String($0.dropFirst(group.count + 1).prefix { $0 != "." }) }
        let once = names.enumerated().filter { names.firstIndex(of: $0.element) == $0.offset }.map(\.element)
        return "\(named(group, name)) has \(once.joined(separator: ", "))"
    }
}

extension SettingDescription {
    /// What a value of the wrong type is told.
    fileprivate var expectation: String {
        switch kind {
        case .integer: "a whole number (\(range))"
        case .number: "a number (\(range))"
        case .boolean: "true or false"
        case .text: "text"
        case .path: "a path"
        case .choice: "one of \(range)"
        case .integerOr: range
        case .integers: "a list of whole numbers"
        case .numbers: range
        case .texts: "a list of texts"
        case .choices: range
        }
    }
}

extension SettingValue {
    /// A YAML node as a value of the expected kind, or nil.
    fileprivate init?(_ node: YAMLNode.Content, as kind: SettingDescription.Kind) {
        switch kind {
        case .integer:
            guard let value = node.plainText.flatMap({ Int($0) }) else { return nil }
            self = .integer(value)
        case .number:
            guard let value = node.plainText.flatMap({ Double($0) }), value.isFinite else { return nil }
            self = .number(value)
        case .boolean:
            guard let text = node.plainText, text == "true" || text == "false" else { return nil }
            self = .boolean(text == "true")
        case .text, .path:
            guard let text = node.text, !node.isNull else { return nil }
            self = .text(text)
        case .choice(let words):
            guard let text = node.text, words.contains(text) else { return nil }
            self = .text(text)
        case .integerOr(let words):
            self.init(integerOrWord: node, words)
        case .integers: self.init(list: node, of: .integer)
        case .numbers:
            guard case .sequence(let items) = node, items.count == 2 else { return nil }
            self.init(list: node, of: .number)
        case .texts: self.init(list: node, of: .text)
        case .choices(let words): self.init(list: node, of: .choice(words))
        }
    }

    private init?(integerOrWord node: YAMLNode.Content, _ words: [String]) {
        guard let text = node.text else { return nil }
        if words.contains(text) {
            self = .text(text)
        } else if let value = node.plainText.flatMap({ Int($0) }) {
            self = .integer(value)
        } else {
            return nil
        }
    }

    private init?(list node: YAMLNode.Content, of kind: SettingDescription.Kind) {
        guard case .sequence(let items) = node else { return nil }
        let values = items.map { SettingValue($0.content, as: kind) }
        guard !values.contains(nil) else { return nil }
        self = .list(values.compactMap { $0 })
    }
}

extension YAMLNode.Content {
    /// What an option without a value says.
    fileprivate static var nothing: Self { .scalar("", isPlain: true) }

    /// The text of a scalar without quotes, or nil.
    fileprivate var plainText: String? {
        guard case .scalar(let text, isPlain: true) = self else { return nil }
        return text
    }

    /// Whether the key was written without a value.
    fileprivate var isNull: Bool {
        plainText.map { ["", "~", "null", "Null", "NULL"].contains($0) } ?? false
    }

    /// The node in messages.
    fileprivate var shortDescription: String {
        switch self {
        case .scalar(let text, _): text.isEmpty ? "nothing" : "\"\(text)\""
        case .sequence(let items): "a list of \(items.count)"
        case .mapping: "a group of keys"
        }
    }
}
