import SafeTensors

/// Asks a process for its reward of the images of one group.
public struct RewardRequest: WireRequest {
    public typealias Reply = Rewards
    public static let kind = MessageKind.rewardRequest

    /// The reward's name in the settings: a process may give several.
    public var reward: String
    /// The group.
    public var group: GroupID
    /// Its prompt.
    public var prompt: String
    /// Whether the answer must have maps.
    public var wantsMaps: Bool
    /// See `images`.
    public var tensors: TensorSet

    /// Makes the message.
    ///
    /// - Parameters:
    ///   - reward: its name in the settings.
    ///   - group: the group.
    ///   - prompt: what the images were made from.
    ///   - wantsMaps: whether the run credits patches by this reward's maps.
    ///   - images: U8 [members, H, W, 3], RGB.
    public init(reward: String, group: GroupID, prompt: String, wantsMaps: Bool, images: TensorPayload) {
        self.reward = reward
        self.group = group
        self.prompt = prompt
        self.wantsMaps = wantsMaps
        tensors = ["images": images]
    }

    /// U8 [members, H, W, 3], RGB.
    public var images: TensorPayload { tensors.required("images") }

    /// There are a name and a prompt, and the images have their type and shape.
    public func validate() throws(WireError) {
        try Check.name(reward, "reward")
        try Check.text(prompt, "prompt", Check.prompt)
        let images = try Check.tensor("images", in: tensors, .uint8, [nil, nil, nil, 3])
        try Check.members(images.shape[0], "the number of images")
        try Check.onlyTensors(["images"], in: tensors)
    }
}

/// A process's reward of the images of one group.
public struct Rewards: WireMessage {
    public static let kind = MessageKind.rewards

    /// The group, as it was asked for.
    public var group: GroupID
    /// See the accessors below.
    public var tensors: TensorSet

    /// Makes the message.
    ///
    /// - Parameters:
    ///   - group: the group.
    ///   - values: F32 [members].
    ///   - maps: F32 [members, rows, columns], where in its image each value comes from.
    public init(group: GroupID, values: TensorPayload, maps: TensorPayload? = nil) {
        self.group = group
        tensors = ["values": values]
        tensors["maps"] = maps
    }

    /// F32 [members], finite.
    public var values: TensorPayload { tensors.required("values") }
    /// F32 [members, rows, columns], finite; nil where there are none.
    public var maps: TensorPayload? { tensors["maps"] }

    /// What a value may be at most, either way: weighted sums of such values are numbers.
    static let largest: Float = 1e12

    /// Values and maps are finite and not beyond 10^12, one a member.
    public func validate() throws(WireError) {
        let values = try Check.tensor("values", in: tensors, .float32, [nil])
        try Check.members(values.elementCount, "the number of values")
        try Check.finite(values, "values", atMost: Self.largest)
        try Check.maps(tensors, memberCount: values.elementCount)
        if let maps { try Check.finite(maps, "maps", atMost: Self.largest) }
        try Check.onlyTensors(["values", "maps"], in: tensors)
    }

    /// They are those of a request's images: of its group, one an image, with maps of no more places than pixels where they
    /// were asked for.
    ///
    /// - Throws: `invalidValue`.
    public func check(answers request: RewardRequest) throws(WireError) {
        let shape = request.images.shape
        guard group == request.group else {
            throw WireError(.invalidValue, "group is \(group), expected \(request.group)")
        }
        guard values.elementCount == shape[0] else {
            throw WireError(
                .invalidValue, "tensor values is F32 \(values.shape), expected F32 [\(shape[0])], one an image")
        }
        guard request.wantsMaps else { return }
        guard let maps else { throw WireError(.invalidValue, "tensor maps is missing, and wantsMaps is true") }
        guard maps.shape[1] <= shape[1], maps.shape[2] <= shape[2] else {
            throw WireError(
                .invalidValue,
                "tensor maps is F32 \(maps.shape), expected at most \(shape[1]) x \(shape[2]) places, the images' pixels"
            )
        }
    }
}
