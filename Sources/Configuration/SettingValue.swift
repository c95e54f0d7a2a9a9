/// A settings file as a tree: what YAML holds before it becomes `Settings`, and what `resolved()` writes.
enum SettingValue: Codable, Equatable {
    case mapping([String: SettingValue])
    case list([SettingValue])
    case integer(Int)
    case number(Double)
    case boolean(Bool)
    case text(String)

    init(from decoder: any Decoder) throws {
        if let container = try? decoder.container(keyedBy: Name.self) {
            var entries: [String: SettingValue] = [:]
            for key in container.allKeys { entries[key.stringValue] = try container.decode(Self.self, forKey: key) }
            self = .mapping(entries)
            return
        }
        let container = try decoder.singleValueContainer()
        if let value = try? container.decode(Bool.self) {
            self = .boolean(value)
        } else if let value = try? container.decode(Int.self) {
            self = .integer(value)
        } else if let value = try? container.decode(Double.self) {
            self = .number(value)
        } else if let value = try? container.decode(String.self) {
            self = .text(value)
        } else {
            self = .list(try container.decode([SettingValue].self))
        }
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .mapping(let entries): try container.encode(entries)
        case .list(let values): try container.encode(values)
        case .integer(let value): try container.encode(value)
        case .number(let value): try container.encode(value)
        case .boolean(let value): try container.encode(value)
        case .text(let value): try container.encode(value)
        }
    }

    private struct Name: CodingKey {
        let stringValue: String
        let intValue: Int? = nil
        init?(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    /// The value at a dotted path, or nil.
    subscript(path: [Substring]) -> SettingValue? {
        get {
            guard let head = path.first else { return self }
            guard case .mapping(let entries) = self else { return nil }
            return entries[String(head)]?[path.dropFirst().map { $0 }]
        }
        set {
            guard let head = path.first else {
                if let newValue { self = newValue }
                return
            }
            guard case .mapping(var entries) = self else { return }
            var child = entries[String(head)] ?? .mapping([:])
            child[path.dropFirst().map { $0 }] = newValue
            entries[String(head)] = child
            self = .mapping(entries)
        }
    }

    /// The value as YAML 1.1 and 1.2 readers alike understand it, on one line.
    var yaml: String {
        switch self {
        case .mapping(let entries):
            "{" + entries.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value.yaml)" }.joined(separator: ", ") + "}"
        case .list(let values): "[" + values.map(\.yaml).joined(separator: ", ") + "]"
        case .integer(let value): String(value)
        case .number(let value): Self.yaml(value)
        case .boolean(let value): String(value)
        case .text(let value): Self.yaml(value)
        }
    }

    /// A number; an exponent always has a point before it, because YAML 1.1 takes `1e-05` for text.
    private static func yaml(_ value: Double) -> String {
        let text = String(value)
        guard let exponent = text.firstIndex(of: "e"), !text.contains(".") else { return text }
        return text[..<exponent] + ".0" + text[exponent...]
    }

    /// Text: plain where no reader could take it for something else, else in double quotes.
    private static func yaml(_ value: String) -> String {
        let first = value.unicodeScalars.first
        let plain = value.unicodeScalars.allSatisfy {
            ("a"..."z").contains($0) || ("A"..."Z").contains($0) || ("0"..."9").contains($0)
                || ["_", ".", "/", "-"].contains($0)
        }
        let reserved = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"].contains(value.lowercased())
        if plain, !reserved, let first, ("a"..."z").contains(first) || ("A"..."Z").contains(first) || first == "/" {
            return value
        }
        var quoted = "\""
        for scalar in value.unicodeScalars {
            switch scalar {
            case "\"", "\\": quoted += "\\\(scalar)"
            case "\n": quoted += "\\n"
            case "\t": quoted += "\\t"
            case _ where scalar.value < 0x20 || scalar.value == 0x7F:
                let digits = String(scalar.value, radix: 16)
                quoted += "\\x" + (digits.count < 2 ? "0" : "") + digits
            default: quoted.unicodeScalars.append(scalar)
            }
        }
        return quoted + "\""
    }
}
