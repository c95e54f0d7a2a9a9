import SafeTensors

/// Asks the reward server to score the images of one group.
public struct ScoreRequest: WireRequest {
    public typealias Reply = Scores
    public static let kind = MessageKind.scoreRequest

    /// The group.
    public var group: GroupID
    /// Its prompt.
    public var prompt: String
    /// The discriminator that must score them; nil: whichever is current.
    public var discriminatorVersion: DiscriminatorVersion?
    /// See `images`.
    public var tensors: TensorSet

    /// Makes the message.
    ///
    /// - Parameters:
    ///   - group: the group.
    ///   - prompt: what they were made from.
    ///   - policyVersion: the policy that made them.
    ///   - discriminatorVersion: the version that must score; nil for whichever is there.
    ///   - images: U8 [members, H, W, 3], RGB.
    public init(
        group: GroupID, prompt: String, discriminatorVersion: DiscriminatorVersion? = nil, images: TensorPayload
    ) {
        self.discriminatorVersion = discriminatorVersion
        self.group = group
        self.prompt = prompt
        tensors = ["images": images]
    }

    /// U8 [members, H, W, 3], RGB.
    public var images: TensorPayload { tensors.required("images") }

    /// There is a prompt, and the images have their type and shape.
    public func validate() throws(WireError) {
        try Check.text(prompt, "prompt", Check.prompt)
        let images = try Check.tensor("images", in: tensors, .uint8, [nil, nil, nil, 3])
        try Check.members(images.shape[0], "the number of images")
        try Check.onlyTensors(["images"], in: tensors)
    }
}

/// The scores of one group, all given by one version of the discriminator.
public struct Scores: WireMessage {
    public static let kind = MessageKind.scores

    /// The discriminator that gave them.
    public var discriminatorVersion: DiscriminatorVersion
    /// See the accessors below.
    public var tensors: TensorSet

    /// Makes the message.
    ///
    /// - Parameters:
    ///   - discriminatorVersion: the version that scored.
    ///   - rewards: F32 [members], combined.
    ///   - components: F32 [members] each, the rewards that were combined, by name.
    ///   - maps: F32 [members, rows, columns], where in its image each reward comes from; in runs that credit patches.
    ///   - witnesses: F32 [members] each, by name: what is measured of the images and enters no reward.
    public init(
        discriminatorVersion: DiscriminatorVersion, rewards: TensorPayload, components: [String: TensorPayload] = [:],
        maps: TensorPayload? = nil, witnesses: [String: TensorPayload] = [:]
    ) {
        self.discriminatorVersion = discriminatorVersion
        tensors = ["rewards": rewards]
        tensors["maps"] = maps
        for (name, payload) in components { tensors["reward." + name] = payload }
        for (name, payload) in witnesses { tensors["witness." + name] = payload }
    }

    /// F32 [members], finite.
    public var rewards: TensorPayload { tensors.required("rewards") }
    /// F32 [members] each, finite, by reward name.
    public var components: [String: TensorPayload] { tensors.named(after: "reward.") }
    /// F32 [members, rows, columns], finite; nil where an image has one advantage.
    public var maps: TensorPayload? { tensors["maps"] }
    /// F32 [members] each, finite, by name: what enters no reward.
    public var witnesses: [String: TensorPayload] { tensors.named(after: "witness.") }

    /// Rewards and maps are finite, one a member.
    public func validate() throws(WireError) {
        try Check.rewards(tensors, memberCount: nil)
        try Check.maps(tensors, memberCount: rewards.elementCount)
        try Check.onlyTensors(["rewards", "maps"], prefixes: ["reward.", "witness."], in: tensors)
    }
}
