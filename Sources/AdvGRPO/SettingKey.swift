/// What one key of the settings file means: the single source of its documentation and its checks.
public struct SettingDescription: Sendable, Equatable {
    /// The YAML type a key accepts.
    public enum Kind: Sendable, Equatable {
        case integer
        case number
        case boolean
        case text
        /// A file or folder; relative paths are taken from the working directory.
        case path
        /// One of a few words.
        case choice([String])
        /// A whole number, or one of a few words.
        case integerOr([String])
        case integers
        case numbers
        case texts
        /// Some of a few words.
        case choices([String])
    }

    /// In paths: stands for a name of one's own, any.
    public static let anyName = "NAME"

    /// Dotted path from the root of the settings file, for example `rollout.window.size`.
    public var path: String
    /// The accepted YAML type.
    public let kind: Kind
    /// The accepted values in words, for example `1...1000`.
    public let range: String
    /// Unit of the value; empty where there is none.
    public let unit: String
    /// One sentence: what the key does.
    public let meaning: String
    /// Where the default comes from: a section of the method, a measurement, or `own`.
    public let source: String
}

/// A value that a settings group may not have, and why.
public struct SettingViolation: Error, Sendable, Equatable, CustomStringConvertible {
    /// Dotted path of the offending key.
    public let path: String
    /// What was expected and what came, without the path.
    public let message: String

    public init(path: String, message: String) {
        self.path = path
        self.message = message
    }

    public var description: String { "\(path): \(message)" }

    /// The same violation seen from the group that contains this one under `name`.
    public func nested(under name: String) -> SettingViolation {
        SettingViolation(path: path.isEmpty ? name : "\(name).\(path)", message: message)
    }
}

/// One key of a settings group together with the check of its value.
public struct SettingKey<Group: Sendable>: Sendable {
    /// The key's documentation.
    public let description: SettingDescription
    /// The reason why the group's value is refused, or nil.
    public let violation: @Sendable (Group) -> String?

    /// A key with its documentation and check spelled out; prefer the typed factories below.
    public init(_ description: SettingDescription, violation: @escaping @Sendable (Group) -> String?) {
        self.description = description
        self.violation = violation
    }

    /// The same key as seen from a group that holds this one under `name`.
    public func nested<Outer: Sendable>(
        under name: String, _ path: any KeyPath<Outer, Group> & Sendable
    ) -> SettingKey<Outer> {
        var description = self.description
        description.path = "\(name).\(description.path)"
        let violation = self.violation
        return SettingKey<Outer>(description) { violation($0[keyPath: path]) }
    }
}

extension Sequence {
    /// Lifts a group's keys into the group that contains it.
    public func nested<Outer: Sendable, Inner: Sendable>(
        under name: String, _ path: any KeyPath<Outer, Inner> & Sendable
    ) -> [SettingKey<Outer>] where Element == SettingKey<Inner> {
        map { $0.nested(under: name, path) }
    }

    /// All violations of a group's keys, in declaration order.
    public func violations<Group: Sendable>(in group: Group) -> [SettingViolation]
    where Element == SettingKey<Group> {
        compactMap { key in
            key.violation(group).map { SettingViolation(path: key.description.path, message: $0) }
        }
    }
}

/// The accepted values of a number.
public enum NumberRange: Sendable, CustomStringConvertible {
    /// Both ends allowed.
    case between(Double, Double)
    /// The bound itself allowed.
    case atLeast(Double)
    /// The bound itself refused.
    case above(Double)
    /// Lower end allowed, upper end refused.
    case halfOpen(Double, Double)

    /// Whether the range holds a value; never true for NaN and infinities.
    public func contains(_ value: Double) -> Bool {
        guard value.isFinite else { return false }
        switch self {
        case .between(let low, let high): return value >= low && value <= high
        case .atLeast(let low): return value >= low
        case .above(let low): return value > low
        case .halfOpen(let low, let high): return value >= low && value < high
        }
    }

    public var description: String {
        switch self {
        case .between(let low, let high): "\(shortest(low))...\(shortest(high))"
        case .atLeast(let low): ">= \(shortest(low))"
        case .above(let low): "> \(shortest(low))"
        case .halfOpen(let low, let high): "\(shortest(low))..<\(shortest(high))"
        }
    }
}

/// A number without a superfluous ".0".
func shortest(_ value: Double) -> String {
    value == value.rounded() && abs(value) < 1e15 ? String(Int(value)) : String(value)
}

extension SettingKey {
    /// A whole number.
    public static func integer(
        _ name: String, _ path: any KeyPath<Group, Int> & Sendable, _ range: ClosedRange<Int>, unit: String = "",
        _ meaning: String, source: String
    ) -> SettingKey {
        let text = range.upperBound == .max ? ">= \(range.lowerBound)" : "\(range.lowerBound)...\(range.upperBound)"
        return make(name, .integer, text, unit, meaning, source) { group in
            let value = group[keyPath: path]
            return range.contains(value) ? nil : "must be \(text), not \(value)"
        }
    }

    /// A real number.
    public static func number(
        _ name: String, _ path: any KeyPath<Group, Double> & Sendable, _ range: NumberRange, unit: String = "",
        _ meaning: String, source: String
    ) -> SettingKey {
        make(name, .number, range.description, unit, meaning, source) { group in
            let value = group[keyPath: path]
            return range.contains(value) ? nil : "must be \(range), not \(shortest(value))"
        }
    }

    /// True or false.
    public static func boolean(
        _ name: String, _ path: any KeyPath<Group, Bool> & Sendable, _ meaning: String, source: String
    ) -> SettingKey {
        make(name, .boolean, "true, false", "", meaning, source) { _ in nil }
    }

    /// One of the words of an enumeration.
    public static func choice<Choice: RawRepresentable<String> & CaseIterable & Sendable>(
        _ name: String, _ path: any KeyPath<Group, Choice> & Sendable, _ meaning: String, source: String
    ) -> SettingKey {
        let words = Choice.allCases.map(\.rawValue)
        return make(name, .choice(words), words.joined(separator: ", "), "", meaning, source) { _ in nil }
    }

    /// Some of the words of an enumeration, each at most once.
    public static func choices<Choice: RawRepresentable<String> & CaseIterable & Hashable & Sendable>(
        _ name: String, _ path: any KeyPath<Group, [Choice]> & Sendable, _ meaning: String, source: String
    ) -> SettingKey {
        let words = Choice.allCases.map(\.rawValue)
        let text = "a list of " + words.joined(separator: ", ")
        return make(name, .choices(words), text, "", meaning, source) { group in
            let values = group[keyPath: path]
            if values.isEmpty { return "must hold at least one entry" }
            return Set(values).count < values.count ? "holds an entry twice: \(values.map(\.rawValue))" : nil
        }
    }

    /// A piece of text.
    public static func text(
        _ name: String, _ path: any KeyPath<Group, String> & Sendable, mayBeEmpty: Bool = false, _ meaning: String,
        source: String
    ) -> SettingKey {
        make(name, .text, mayBeEmpty ? "text, may be empty" : "text", "", meaning, source) { group in
            mayBeEmpty || !group[keyPath: path].isEmpty ? nil : "must not be empty"
        }
    }

    /// A file or folder.
    public static func path(
        _ name: String, _ path: any KeyPath<Group, String> & Sendable, mayBeEmpty: Bool = false, _ meaning: String,
        source: String
    ) -> SettingKey {
        make(name, .path, mayBeEmpty ? "a path, may be empty" : "a path", "", meaning, source) { group in
            mayBeEmpty || !group[keyPath: path].isEmpty ? nil : "must not be empty"
        }
    }

    /// A list of whole numbers.
    public static func integers(
        _ name: String, _ path: any KeyPath<Group, [Int]> & Sendable, _ range: ClosedRange<Int>, unit: String = "",
        mayBeEmpty: Bool = false, _ meaning: String, source: String
    ) -> SettingKey {
        let text = "a list of \(range.lowerBound)...\(range.upperBound)" + (mayBeEmpty ? ", may be empty" : "")
        return make(name, .integers, text, unit, meaning, source) { group in
            let values = group[keyPath: path]
            if values.isEmpty { return mayBeEmpty ? nil : "must hold at least one number" }
            if Set(values).count < values.count { return "holds a number twice: \(values)" }
            return values.first { !range.contains($0) }.map { "must be \(text), not \($0)" }
        }
    }

    /// A list of words.
    public static func texts(
        _ name: String, _ path: any KeyPath<Group, [String]> & Sendable, mayBeEmpty: Bool = false, _ meaning: String,
        source: String
    ) -> SettingKey {
        make(name, .texts, mayBeEmpty ? "a list, may be empty" : "a list", "", meaning, source) { group in
            let values = group[keyPath: path]
            if values.isEmpty { return mayBeEmpty ? nil : "must hold at least one entry" }
            if values.contains("") { return "holds an empty entry" }
            return Set(values).count < values.count ? "holds an entry twice: \(values)" : nil
        }
    }

    /// A key of a kind that has no factory of its own.
    public static func make(
        _ name: String, _ kind: SettingDescription.Kind, _ range: String, _ unit: String, _ meaning: String,
        _ source: String, violation: @escaping @Sendable (Group) -> String?
    ) -> SettingKey {
        SettingKey(
            SettingDescription(path: name, kind: kind, range: range, unit: unit, meaning: meaning, source: source),
            violation: violation)
    }
}
