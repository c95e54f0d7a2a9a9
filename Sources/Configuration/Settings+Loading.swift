public import AdvGRPO
internal import Foundation
internal import Platform

extension Settings {
    /// Reads a settings file, applies overrides and checks everything.
    ///
    /// - Parameters:
    ///   - path: the YAML file.
    ///   - overrides: `key.path=value` each, the value in YAML; they win over the file.
    /// - Throws: all problems at once.
    public static func load(path: String, overrides: [String] = []) throws(SettingsError) -> Settings {
        let text: String
        do {
            text = try String(contentsOf: URL(fileURLWithPath: path), encoding: .utf8)
        } catch {
            let exists = FileManager.default.fileExists(atPath: path)
            let message =
                exists ? "cannot be read as UTF-8 text; check its permissions" : "does not exist; name a settings file"
            throw SettingsError(
                file: path, problems: [.init(origin: .file(line: nil), path: "", message: message)])
        }
        return try parse(
            String(decoding: withoutByteOrderMark(Array(text.utf8)), as: UTF8.self), file: path, overrides: overrides)
    }

    /// Reads settings from text; `file` is the name in messages.
    public static func parse(
        _ text: String, file: String = "settings", overrides: [String] = []
    ) throws(SettingsError) -> Settings {
        var reader = SettingsReader()
        reader.read(text)
        for override in overrides { reader.readOverride(override) }
        let settings = reader.settings()
        guard reader.problems.isEmpty else { throw SettingsError(file: file, problems: reader.problems) }
        return settings
    }

    /// The complete settings as YAML, every key in documentation order.
    public func resolved() -> String {
        let tree = self.tree()
        var text = ""
        var open: [Substring] = []
        for path in Self.paths(in: tree) {
            let path = path.split(separator: ".")
            let groups = Array(path.dropLast())
            let shared = zip(open, groups).prefix { $0 == $1 }.count
            for depth in shared..<groups.count {
                text += String(repeating: "  ", count: depth) + "\(groups[depth]):\n"
            }
            open = groups
            // Every documented key is part of the encoded tree: a test compares the two sets.
            let value = tree[path]?.yaml ?? "\"\""
            text += String(repeating: "  ", count: groups.count) + "\(path[groups.count]): \(value)\n"
        }
        return text
    }

    /// SHA-256 of `resolved()` in lower-case hexadecimal: the same as `sha256sum settings.yaml` in a run directory.
    public var digest: String { SHA256.hexadecimal(of: resolved()) }

    /// SHA-256 of what all roles of a run must agree on: seed, precision and method, but no paths, threads or lengths.
    public var methodDigest: String {
        var common = Settings(fidelity: method.fidelity)
        common.seed = seed
        common.precision = precision
        common.method = method
        common.method.rewardProcesses = method.rewardProcesses.mapValues(\.ofMethod)
        return SHA256.hexadecimal(of: common.resolved())
    }

    /// The files and folders that the settings name and that do not exist, each with its key.
    public func missingPaths() -> [SettingViolation] {
        let named =
            [
                ("model", model), ("rewardBackbone", rewardBackbone), ("evaluationBackbone", evaluationBackbone),
                ("judge", judge),
                ("data.references", data.references), ("data.prompts", data.prompts),
                ("data.evaluationPrompts", data.evaluationPrompts), ("cluster.keys", cluster.keys),
            ] + method.reward.weights.active.map { ("rewardModels.\($0.rawValue)", rewardModels[$0] ?? "") }
        return named.filter { !$0.1.isEmpty && !FileManager.default.fileExists(atPath: $0.1) }.map {
            SettingViolation(path: $0.0, message: "\($0.1) does not exist (looked for from the working directory)")
        }
    }

    /// - Parameter file: the settings file, as messages name it.
    /// - Throws: all of `missingPaths` at once.
    public func checkPaths(file: String) throws(SettingsError) {
        let missing = missingPaths()
        guard !missing.isEmpty else { return }
        throw SettingsError(
            file: file, problems: missing.map { .init(origin: .preset, path: $0.path, message: $0.message) })
    }

    /// The settings as a tree.
    func tree() -> SettingValue {
        do {
            return try JSONDecoder().decode(SettingValue.self, from: JSONEncoder().encode(self))
        } catch {
            // Plain values of finite numbers always encode; validated settings hold nothing else.
            preconditionFailure("settings cannot be encoded: \(error)")
        }
    }

    /// The paths of the keys on which two settings differ, in documentation order.
    public func differingKeys(from other: Settings) -> [String] {
        let (mine, theirs) = (tree(), other.tree())
        let paths = Self.paths(in: mine)
        return (paths + Self.paths(in: theirs).filter { !paths.contains($0) }).filter { path in
            let parts = path.split(separator: ".")
            return mine[parts] != theirs[parts]
        }
    }

    /// The paths of all keys in documentation order, with every name of one's own that a tree has.
    static func paths(in tree: SettingValue) -> [String] {
        var paths: [String] = []
        var named: [Substring] = []
        for path in keys.map(\.description.path) {
            let parts = path.split(separator: ".")
            guard let place = parts.firstIndex(of: Substring(SettingDescription.anyName)) else {
                paths.append(path)
                continue
            }
            // Keys of one name stay together, whatever other names there are.
            let group = Array(parts[..<place])
            if group == named { continue }
            named = group
            guard case .mapping(let entries)? = tree[group] else { continue }
            let prefix = group.joined(separator: ".") + "."
            let open = prefix + SettingDescription.anyName + "."
            for name in entries.keys.sorted() {
                paths += keys.map(\.description.path).filter { $0.hasPrefix(open) }
                    .map { prefix + name + $0.dropFirst(prefix.count + SettingDescription.anyName.count) }
            }
        }
        return paths
    }
}
