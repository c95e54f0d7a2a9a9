/// What a worker is given to do: one piece of an epoch, by what it is of.
public enum TaskID: Sendable, Hashable, CustomStringConvertible {
    /// Images of a group, and their scores.
    case rollout(GroupID)
    /// A group's gradient for one of the epoch's optimiser steps, counted from 0.
    case gradient(GroupID, update: Int)

    /// Optimiser steps that an epoch can have.
    public static let updates = 0..<1 << 20

    /// What sort of work it is.
    public var kind: TaskKind {
        switch self {
        case .rollout: .rollout
        case .gradient: .gradient
        }
    }

    /// The group that it is of.
    public var group: GroupID {
        switch self {
        case .rollout(let group), .gradient(let group, _): group
        }
    }

    /// "group 12/3" or "gradient 0 of group 12/3".
    public var description: String {
        switch self {
        case .rollout(let group): "group \(group)"
        case .gradient(let group, let update): "gradient \(update) of group \(group)"
        }
    }
}

/// A sort of work, in the order in which sorts are given out: what the policy's next version waits for goes first.
public enum TaskKind: String, Sendable, Hashable, Codable, CaseIterable {
    case gradient, rollout
}

extension TaskID: Codable {
    private enum CodingKeys: String, CodingKey { case kind, group, update }

    /// Reads `{"kind": "rollout" | "gradient", "group": {...}, "update": 0}`.
    ///
    /// - Throws: `DecodingError.dataCorrupted` over `OutOfRange` for a number outside its range.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        let group = try container.decode(GroupID.self, forKey: .group)
        switch try container.decode(TaskKind.self, forKey: .kind) {
        case .rollout: self = .rollout(group)
        case .gradient:
            self = .gradient(group, update: try container.decode(within: Self.updates, forKey: .update))
        }
    }

    /// Writes `{"kind": "rollout" | "gradient", "group": {...}, "update": 0}`.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(kind, forKey: .kind)
        try container.encode(group, forKey: .group)
        if case .gradient(_, let update) = self { try container.encode(update, forKey: .update) }
    }
}
