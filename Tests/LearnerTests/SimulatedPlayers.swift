import AdvGRPO
import NeuralNetworks
import Protocol
import TensorCore

/// A policy and a discriminator of one number each: the least that has bits to compare.
///
/// The policy's images are normal numbers around its own, the discriminator prefers images near its number. Neither reads a clock
/// or a name: equal players make and score equal groups, whoever asks.
struct SimulatedPlayers: Equatable {
    static let members = 3
    /// Where the references lie.
    static let reference: Float = 3

    var policy: Float = 0 { didSet { digest = Self.digest(of: policy) } }
    /// By which workers know the policy.
    private(set) var digest = Self.digest(of: 0)
    var policyVersion = 0
    var discriminator: Float = 1
    var discriminatorVersion = 0

    static func digest(of policy: Float) -> WeightsDigest {
        let bits = policy.bitPattern
        return WeightsDigest(bytes: (0..<32).map { UInt8(truncatingIfNeeded: (bits >> (8 * ($0 % 4))) &+ $0) })
    }

    /// A group's images, members in order.
    static func images(_ group: GroupID, by policy: Float) -> [Float] {
        Philox(seed: 1, purpose: .tests, group.epoch, group.index).normals(members).map { policy + $0 }
    }

    /// Rewards of images.
    static func rewards(_ images: [Float], by discriminator: Float) -> [Float] {
        images.map { -($0 - discriminator) * ($0 - discriminator) }
    }

    /// A group as this policy makes it and this discriminator scores it.
    func group(_ group: GroupID) -> ScoredGroup {
        let images = Self.images(group, by: policy)
        return Self.scored(group, images, Self.rewards(images, by: discriminator))
    }

    /// A group as the update consumes it.
    static func scored(_ group: GroupID, _ images: [Float], _ rewards: [Float]) -> ScoredGroup {
        let engine = OpenBLASEngine.shared
        return ScoredGroup(
            group: group, prompt: prompt,
            trajectory: Trajectory(
                stepIndices: [0],
                latents: engine.tensor(images.flatMap { [0, $0] }, shape: [members, 2, 1, 1, 1]),
                logProbabilities: engine.zeros([members, 1])),
            rewards: rewards)
    }

    private static let prompt: PromptConditioning = {
        let engine = OpenBLASEngine.shared
        let nothing = Conditioning(text_BSD: engine.zeros([1, 1, 1]), pooled_BP: engine.zeros([1, 1]))
        return PromptConditioning(positive: nothing, negative: nothing)
    }()

    /// What the discriminator makes of the references and of an epoch's images.
    func compared(_ groups: [ScoredGroup]) -> Schedule.Evidence {
        let fake = groups.flatMap(\.rewards).map(Double.init)
        return Schedule.Evidence(
            realMean: Double(Self.rewards([Self.reference], by: discriminator)[0]),
            fakeMean: fake.reduce(0, +) / Double(fake.count))
    }

    /// Moves the discriminator half of the way to the references.
    ///
    /// - Returns: the share of images that the version which scored them tells from the references.
    mutating func trainDiscriminator(_ groups: [ScoredGroup]) -> Double {
        let real = Self.rewards([Self.reference], by: discriminator)[0]
        let fake = groups.flatMap(\.rewards)
        discriminator += (Self.reference - discriminator) / 2
        discriminatorVersion += 1
        return Double(fake.count { $0 < real }) / Double(fake.count)
    }

    /// Moves the policy towards images with an advantage, by the gradient of their log-probability, in two steps.
    ///
    /// - Parameter gradients: of some groups, with their advantages, at the players as they are.
    mutating func updatePolicy(
        _ groups: [ScoredGroup], _ advantages: Advantages,
        gradients: (_ number: Int, [(group: ScoredGroup, advantages: [Float])], SimulatedPlayers) throws -> [Float]
    ) rethrows -> Float {
        let credited = groups.enumerated().map { ($1, advantages.clamped($0, to: 5)) }
        let half = (credited.count + 1) / 2
        var last: Float = 0
        for (number, part) in [Array(credited[..<half]), Array(credited[half...])].enumerated() where !part.isEmpty {
            let sum = try gradients(number, part, self).reduce(0, +)
            policy += sum / Float(part.count * Self.members)
            last = sum
        }
        policyVersion += 1
        return last
    }

    /// A group's part of a step's gradient.
    static func gradient(_ images: [Float], _ advantages: [Float], at policy: Float) -> Float {
        zip(images, advantages).reduce(0) { $0 + $1.1 * ($1.0 - policy) }
    }
}
