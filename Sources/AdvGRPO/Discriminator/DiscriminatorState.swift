import Foundation
public import NeuralNetworks
import TensorCore

/// Everything a reward server must keep to go on bit for bit: heads, constants, moments, replay, version.
///
/// Tensors are fp32 and named `head/NAME`, `constant/NAME`, `moment1/NAME`, `moment2/NAME`, `kept/EPOCH/INDEX/FEATURE`,
/// `waiting/EPOCH/INDEX/FEATURE`, and with a frozen twin `twin/NAME` and `twinConstant/NAME`; the document is JSON with sorted keys.
public struct DiscriminatorState: Sendable {
    /// All tensors.
    public let tensors: Parameters
    /// Version, number of optimiser updates, groups of the replay with their prompts.
    public let document: String

    /// A state as it was stored; `DiscriminatorTrainer.restore` checks it.
    public init(tensors: Parameters, document: String) {
        self.tensors = tensors
        self.document = document
    }

    struct Document: Codable {
        struct Group: Codable {
            var coordinates: GroupID
            var prompt: String
        }
        var version: Int
        var updateCount: Int
        /// Version of the frozen twin; absent without one.
        var twinVersion: Int?
        var kept: [Group]
        var waiting: [Group]
    }
}

/// A stored discriminator that does not fit the running settings, or is damaged.
public struct DiscriminatorStateError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What does not fit.
    public let description: String
}

extension DiscriminatorTrainer {
    /// The whole state.
    public var state: DiscriminatorState {
        let heads = discriminator.parameters.renamed { "head/" + $0 }
            .merging(discriminator.constants.renamed { "constant/" + $0 })
            .merging(optimizer.firstMoment.renamed { "moment1/" + $0 })
            .merging(optimizer.secondMoment.renamed { "moment2/" + $0 })
            .merging(DiscriminatorState.tensors(of: twin))
        let document = DiscriminatorState.Document(
            version: discriminator.version, updateCount: optimizer.updateCount, twinVersion: twin?.version,
            kept: Self.list(replay.kept), waiting: Self.list(replay.waiting))
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        guard let data = try? encoder.encode(document), let text = String(data: data, encoding: .utf8) else {
            preconditionFailure("discriminator state: strings and integers always encode")
        }
        return DiscriminatorState(
            tensors: heads.merging(Self.tensors(replay.kept, "kept")).merging(Self.tensors(replay.waiting, "waiting")),
            document: text)
    }

    /// Replaces everything by a stored state, or changes nothing.
    ///
    /// - Throws: `DiscriminatorStateError` when names, shapes or the document do not fit the settings of this trainer.
    public mutating func restore(_ state: DiscriminatorState) throws(DiscriminatorStateError) {
        let document: DiscriminatorState.Document
        do {
            document = try JSONDecoder().decode(DiscriminatorState.Document.self, from: Data(state.document.utf8))
        } catch {
            throw DiscriminatorStateError(description: "discriminator state: its document is not readable: \(error)")
        }
        guard GroupID.epochs.contains(document.version), document.updateCount >= 0 else {
            throw DiscriminatorStateError(
                description:
                    "discriminator state: version \(document.version) after \(document.updateCount) updates cannot be")
        }
        for (name, tensor) in state.tensors.entries {
            guard tensor.dtype == .float32, tensor.engine.sumOfSquares(tensor).isFinite else {
                throw DiscriminatorStateError(
                    description: "discriminator state: \(name) is not of finite fp32 numbers")
            }
        }
        let heads = try Self.select(state.tensors, "head/", like: discriminator.parameters)
        let constants = try Self.select(state.tensors, "constant/", like: discriminator.constants)
        let first = try Self.select(state.tensors, "moment1/", like: discriminator.parameters)
        let second = try Self.select(state.tensors, "moment2/", like: discriminator.parameters)
        let twin = try storedTwin(document.twinVersion, of: document.version, state.tensors)
        let kept = try Self.groups(document.kept, "kept", state.tensors)
        let waiting = try Self.groups(document.waiting, "waiting", state.tensors)
        discriminator.parameters = heads
        discriminator.constants = constants
        discriminator.version = document.version
        self.twin = twin
        optimizer = AdamW(
            optimizer.settings, updateCount: document.updateCount, firstMoment: first, secondMoment: second)
        replay = FakeReplay(capacity: replay.capacity, waiting: waiting, kept: kept)
    }

    /// The replay's features are what the heads read, as the features of references show it.
    ///
    /// - Throws: `DiscriminatorStateError` naming the group, or what reading references throws.
    public func checkReplay(against references: ReferenceImages) throws {
        let groups = replay.kept.merging(replay.waiting) { kept, _ in kept }
        guard !groups.isEmpty, let any = (references.training + references.heldOut).first else { return }
        let expected = try references.features([any], .training).tensors.filter { !$0.key.hasSuffix(centreSuffix) }
            .mapValues { Array($0.shape.dropFirst()) }
        for (group, entry) in groups.sorted(by: { $0.key < $1.key }) {
            let found = entry.features.tensors.mapValues { Array($0.shape.dropFirst()) }
            guard found == expected, GroupID.members.count >= entry.features.count else {
                throw DiscriminatorStateError(
                    description: "discriminator state: group \(group) has features \(found), the heads read \(expected)"
                )
            }
        }
    }

    private func storedTwin(
        _ twinVersion: Int?, of version: Int, _ tensors: Parameters
    ) throws(DiscriminatorStateError) -> Discriminator? {
        guard let twinVersion else { return nil }
        guard (0...version).contains(twinVersion) else {
            throw DiscriminatorStateError(
                description: "discriminator state: version \(version) has a twin of version \(twinVersion)")
        }
        var twin = discriminator
        twin.parameters = try Self.select(tensors, "twin/", like: discriminator.parameters)
        twin.constants = try Self.select(tensors, "twinConstant/", like: discriminator.constants)
        twin.version = twinVersion
        return twin
    }

    private static func list(_ groups: [GroupID: FakeReplay.Entry]) -> [DiscriminatorState.Document.Group] {
        groups.sorted { $0.key < $1.key }.map { .init(coordinates: $0.key, prompt: $0.value.prompt) }
    }

    private static func tensors(_ groups: [GroupID: FakeReplay.Entry], _ kind: String) -> Parameters {
        groups.reduce(Parameters()) { all, group in
            all.merging(Parameters(group.value.features.tensors).renamed { "\(kind)/\(group.key)/\($0)" })
        }
    }

    private static func select(
        _ tensors: Parameters, _ prefix: String, like model: Parameters
    ) throws(DiscriminatorStateError) -> Parameters {
        let selected = strip(tensors, prefix)
        guard selected.names == model.names else {
            throw DiscriminatorStateError(
                description: "discriminator state: \(prefix) has \(selected.names), the settings ask for \(model.names)"
            )
        }
        for (name, tensor) in model.entries where selected[name]?.shape != tensor.shape {
            throw DiscriminatorStateError(
                description:
                    "discriminator state: \(prefix)\(name) has shape \(selected[name]?.shape ?? []), the settings "
                    + "ask for \(tensor.shape)")
        }
        return selected
    }

    private static func groups(
        _ list: [DiscriminatorState.Document.Group], _ kind: String, _ tensors: Parameters
    ) throws(DiscriminatorStateError) -> [GroupID: FakeReplay.Entry] {
        var groups: [GroupID: FakeReplay.Entry] = [:]
        for group in list {
            let features = strip(tensors, "\(kind)/\(group.coordinates)/")
            guard let rows = features.entries.first?.tensor.shape.first,
                features.entries.allSatisfy({ $0.tensor.shape.first == rows })
            else {
                throw DiscriminatorStateError(
                    description: "discriminator state: group \(group.coordinates) of \(kind) has no matching features")
            }
            let table = Dictionary(features.entries.map { ($0.name, $0.tensor) }) { first, _ in first }
            groups[group.coordinates] = FakeReplay.Entry(prompt: group.prompt, features: FeatureTable(table))
        }
        return groups
    }

    private static func strip(_ tensors: Parameters, _ prefix: String) -> Parameters {
        tensors.filtered { $0.hasPrefix(prefix) }.renamed { String($0.dropFirst(prefix.count)) }
    }
}
