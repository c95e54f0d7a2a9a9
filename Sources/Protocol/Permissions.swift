/// Which role may send which request to which role: all that a run admits.
public struct Permission: Sendable, Equatable {
    /// The request.
    public let kind: MessageKind
    /// Who may send it.
    public let senders: Set<Role>
    /// Whom it may be sent to.
    public let receivers: Set<Role>

    /// Every request, once, in the order of the kinds' numbers. What is not here is nobody's to send.
    public static let table: [Permission] = [
        Permission(kind: .hello, senders: [.rolloutWorker], receivers: [.learner]),
        Permission(kind: .hello, senders: [.learner], receivers: [.rewardServer]),
        Permission(kind: .leaseRequest, senders: [.rolloutWorker], receivers: [.learner]),
        Permission(kind: .groupResult, senders: [.rolloutWorker], receivers: [.learner]),
        Permission(kind: .taskFailure, senders: [.rolloutWorker], receivers: [.learner]),
        Permission(kind: .heartbeat, senders: [.rolloutWorker], receivers: [.learner]),
        Permission(kind: .scoreRequest, senders: [.rolloutWorker], receivers: [.rewardServer]),
        Permission(kind: .discriminatorTraining, senders: [.learner], receivers: [.rewardServer]),
        Permission(kind: .discriminatorStateRequest, senders: [.learner], receivers: [.rewardServer]),
        Permission(kind: .discriminatorRestore, senders: [.learner], receivers: [.rewardServer]),
        Permission(kind: .healthRequest, senders: everybody, receivers: servers),
        Permission(kind: .statusRequest, senders: [.operator], receivers: [.learner]),
        Permission(kind: .stopRequest, senders: [.operator], receivers: servers),
        Permission(kind: .manifestRequest, senders: [.rolloutWorker, .relay], receivers: [.learner, .relay]),
        Permission(kind: .piecesRequest, senders: [.rolloutWorker, .relay], receivers: [.learner, .relay]),
        Permission(kind: .epochOpening, senders: [.learner], receivers: [.rewardServer]),
        Permission(kind: .rewardRequest, senders: [.rewardServer], receivers: [.rewardProcess]),
        Permission(kind: .gradientResult, senders: [.rolloutWorker], receivers: [.learner]),
        Permission(kind: .contentRequest, senders: [.rolloutWorker], receivers: [.learner]),
    ]

    /// The roles that ask.
    private static let everybody: Set<Role> = [.learner, .rolloutWorker, .relay, .operator]
    /// The roles that are asked.
    private static let servers: Set<Role> = [.learner, .rewardServer, .rolloutWorker, .relay]

    /// Whether a role may send a request to another.
    public static func allows(_ kind: MessageKind, from sender: Role, to receiver: Role) -> Bool {
        table.contains { $0.kind == kind && $0.senders.contains(sender) && $0.receivers.contains(receiver) }
    }

    /// - Throws: `notAllowed`, naming the three.
    public static func check(_ kind: MessageKind, from sender: Role, to receiver: Role) throws(Failure) {
        guard allows(kind, from: sender, to: receiver) else {
            throw Failure(
                code: .notAllowed,
                message: "\(sender.rawValue) may not send \(kind) to \(receiver.rawValue)",
                remedy:
                    "docs/protocol.md says who sends what to whom; the sender's role is its key's in the allow-list, "
                    + "or without keys the one it names")
        }
    }
}

extension Role {
    /// The roles that have keys of their own, by their names in allow-lists and of key files. A reward server shows the
    /// servers' key to reward processes; those ask nobody, and are known by theirs.
    public static let keyNames: [(name: String, role: Role)] = [
        ("learner", .learner), ("worker", .rolloutWorker), ("operator", .operator), ("relay", .relay),
        ("reward", .rewardProcess),
    ]

    /// The role of a name in an allow-list, or nil.
    public init?(keyName: String) {
        guard let role = Self.keyNames.first(where: { $0.name == keyName })?.role else { return nil }
        self = role
    }

    /// Its name in allow-lists and of its key files; nil for one that has no key.
    public var keyName: String? { Self.keyNames.first { $0.role == self }?.name }
}
