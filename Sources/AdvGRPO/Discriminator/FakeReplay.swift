import TensorCore

/// Features of generated images, by group: those scored and not yet trained on, and those of earlier trainings.
///
/// Arrival order leaves no trace: groups are kept in the order of their coordinates.
public struct FakeReplay: Sendable {
    /// One group's images.
    public struct Entry: Sendable {
        /// Its prompt.
        public let prompt: String
        /// One row a member.
        public let features: FeatureTable
    }

    /// Groups kept from earlier trainings.
    public let capacity: Int
    /// Scored, waiting for the training of their epoch.
    public private(set) var waiting: [GroupID: Entry] = [:]
    /// Trained on, at most `capacity` after a training.
    public private(set) var kept: [GroupID: Entry] = [:]

    /// An empty replay.
    public init(capacity: Int) { self.capacity = capacity }

    init(capacity: Int, waiting: [GroupID: Entry], kept: [GroupID: Entry]) {
        self.capacity = capacity
        self.waiting = waiting
        self.kept = kept
    }

    /// Remembers a scored group; scoring it again replaces it. Groups more than two epochs behind are forgotten, so that
    /// a run that does not train the discriminator does not grow.
    public mutating func remember(_ group: GroupID, prompt: String, features: FeatureTable) {
        waiting[group] = Entry(prompt: prompt, features: features)
        waiting = waiting.filter { $0.key.epoch + 2 >= group.epoch }
    }

    /// Forgets the groups that no training has used.
    mutating func forgetWaiting() { waiting = [:] }

    /// Waiting groups, in order.
    ///
    /// - Throws: `MissingGroups` when some were never scored here.
    func waitingEntries(_ groups: [GroupID]) throws(MissingGroups) -> [Entry] {
        let ordered = groups.sorted()
        let missing = ordered.filter { waiting[$0] == nil }
        guard missing.isEmpty, !ordered.isEmpty else { throw MissingGroups(groups: missing) }
        return ordered.compactMap { waiting[$0] }
    }

    /// Takes an epoch's groups for a training: they leave `waiting`, as do all groups of that epoch and before.
    ///
    /// - Returns: the groups in order.
    /// - Throws: `MissingGroups` when some were never scored here; nothing changes then.
    mutating func take(_ groups: [GroupID]) throws(MissingGroups) -> [Entry] {
        let entries = try waitingEntries(groups)
        let ordered = groups.sorted()
        let lastEpoch = ordered.last?.epoch ?? 0
        waiting = waiting.filter { $0.key.epoch > lastEpoch }
        for (group, entry) in zip(ordered, entries) { kept[group] = entry }
        return entries
    }

    /// The features of one of the groups; nil where there are none.
    public var anyFeatures: FeatureTable? { (waiting.values.first ?? kept.values.first)?.features }

    /// Every kept group, in order.
    var keptGroups: [GroupID] { kept.keys.sorted() }

    /// What is kept of some groups, in the order given.
    func keptEntries(_ groups: [GroupID]) -> [Entry] { groups.compactMap { kept[$0] } }

    /// Forgets all but the newest groups.
    mutating func trim() {
        for group in kept.keys.sorted().dropLast(capacity) { kept[group] = nil }
    }
}

/// Groups to train on that this reward server has not scored; they must be generated and scored again.
public struct MissingGroups: Error, Sendable, Equatable, CustomStringConvertible {
    /// Which; empty when no group was named at all.
    public let groups: [GroupID]

    public var description: String {
        groups.isEmpty
            ? "no groups to train the discriminator on"
            : "groups never scored here: \(groups.map(\.description).joined(separator: ", "))"
    }
}
