/// An engine of this build: a row of the table `allCases`, which settings, `--engine`, documentation and numerical tests follow.
///
/// An engine is a folder with its conformance to `Engine` and its row, and a line of `allCases`.
public struct EngineKind: Sendable {
    /// The name in settings and options, and the engine's own.
    public let rawValue: String
    /// What it is for, as the rest of the sentence "NAME is ...".
    public let meaning: String
    /// Whether `RehearsalEngine` stands for it, so that a run's memory is known beforehand.
    public let isRehearsed: Bool
    private let obstacle: @Sendable () -> String?
    private let shared: @Sendable () -> any Engine

    /// A row.
    ///
    /// - Parameters:
    ///   - obstacle: why the engine does not run on this machine, and what to do; nil where it does.
    ///   - shared: the engine; called only where it runs.
    init(
        _ rawValue: String, _ meaning: String, isRehearsed: Bool = false,
        obstacle: @escaping @Sendable () -> String? = { nil }, shared: @escaping @Sendable () -> any Engine
    ) {
        self.rawValue = rawValue
        self.meaning = meaning
        self.isRehearsed = isRehearsed
        self.obstacle = obstacle
        self.shared = shared
    }

    /// The engine.
    ///
    /// - Throws: `UnavailableEngine` where it does not run on this machine.
    public func engine() throws(UnavailableEngine) -> any Engine {
        if let obstacle = obstacle() { throw UnavailableEngine(name: rawValue, obstacle: obstacle) }
        return shared()
    }

    /// Whether it runs on this machine.
    public var isAvailable: Bool { obstacle() == nil }
}

extension EngineKind: CaseIterable {
    /// The whole table, the default first.
    public static let allCases = [oneDNN, openBLAS]

    /// The engine used unless told otherwise: the fast one.
    public static var `default`: EngineKind { allCases[0] }
}

extension EngineKind: RawRepresentable, Hashable, Codable, CustomStringConvertible {
    /// The row of this name, or nil.
    public init?(rawValue: String) {
        guard let row = Self.allCases.first(where: { $0.rawValue == rawValue }) else { return nil }
        self = row
    }

    public static func == (a: EngineKind, b: EngineKind) -> Bool { a.rawValue == b.rawValue }

    public func hash(into hasher: inout Hasher) { hasher.combine(rawValue) }

    public var description: String { rawValue }
}

/// An engine that this build has and this machine does not run.
public struct UnavailableEngine: Error, CustomStringConvertible {
    /// The engine's name.
    public let name: String
    /// Why, and what to do.
    public let obstacle: String

    public var description: String { "engine \(name) does not run here: \(obstacle)" }
}
