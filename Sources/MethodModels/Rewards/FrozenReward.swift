public import AdvGRPO
public import ImageModels
public import Raster
public import TensorCore

/// A reward of a frozen model or of a formula, ready to score images.
public struct FrozenReward: Sendable {
    /// Which.
    public let component: RewardComponent
    private let loaded: LoadedReward

    /// Reference images of a prompt, brought to a size in pixels.
    public typealias References = @Sendable (_ prompt: String, _ width: Int, _ height: Int) throws -> [RGBImage]

    /// Loads what the reward needs.
    ///
    /// - Parameters:
    ///   - component: none of the discriminator's.
    ///   - folder: of its model; not read by rewards without one.
    ///   - engine: what computes.
    ///   - dtype: precision of weights and activations.
    ///   - chunks: images computed at once.
    ///   - references: called by rewards that read them.
    /// - Throws: `ModelError`, `SafeTensorsError` naming the file.
    public init(
        _ component: RewardComponent, folder: String, engine: any Engine, dtype: DType, chunks: Chunks,
        references: @escaping References
    ) throws {
        guard let loader = Self.loader(of: component) else {
            preconditionFailure("\(component.rawValue) has no loader in MethodModels/Rewards")
        }
        self.component = component
        loaded = try loader.load(
            RewardSources(folder: folder, engine: engine, dtype: dtype, chunks: chunks, references: references))
    }

    /// How much of a prompt it reads; nil for rewards of images alone.
    public var promptReader: PromptReader? { loaded.promptReader }

    /// A sentence that names what of the model's folder was not read; nil where all was.
    public var leftOut: String? { loaded.leftOut }

    /// Scores on the reward's own scale, which is `component.divisor` times that of a weighted sum.
    ///
    /// - Parameters:
    ///   - images: of any sizes.
    ///   - prompts: one an image; read only by components that read prompts.
    ///   - lanes: threads; the result does not depend on how many there are.
    /// - Throws: `ModelError` when tokenizer and model do not belong together; what reading references throws.
    public func scores(of images: [RGBImage], prompts: [String], lanes: Lanes) throws -> [Float] {
        precondition(images.count == prompts.count, "\(images.count) images, \(prompts.count) prompts")
        return images.isEmpty ? [] : try loaded.score(images, prompts, lanes)
    }

    /// Makes sure that a reward can score images of these prompts.
    ///
    /// - Throws: `ModelError` that names the first prompt which it cannot be used with.
    public static func check(_ prompts: [String], for component: RewardComponent) throws {
        guard let loader = loader(of: component) else { return }
        for prompt in prompts { try loader.check(prompt: prompt) }
    }

    /// Where in images scores come from, on the scale of `scores`: contributions of the pixels that the reward's model sees. nil
    /// where the score is no differentiable function of these.
    ///
    /// - Parameters:
    ///   - images: a group's, at least one, all of one size.
    ///   - prompt: of the group.
    ///   - attribution: how gradients are taken.
    /// - Throws: `ModelError` when tokenizer and model do not belong together.
    public func maps(of images: [RGBImage], prompt: String, attribution: Attribution) throws -> RewardMaps? {
        try loaded.maps?(images, prompt, attribution)
    }

    /// Files of weights beside the model's own in a component's folder.
    public static func additionalFiles(of component: RewardComponent) -> [String] {
        loader(of: component)?.additionalFiles ?? []
    }

    /// The loader is an extension of the type that the component's row names.
    static func loader(of component: RewardComponent) -> (any FrozenRewardLoader.Type)? {
        component.frozenName as? any FrozenRewardLoader.Type
    }
}

/// How one reward is loaded: a file of this folder each.
protocol FrozenRewardLoader: FrozenRewardName {
    /// Files of weights beside the model's own in its folder.
    static var additionalFiles: [String] { get }
    /// - Throws: `ModelError` that names a prompt which the reward cannot be used with.
    static func check(prompt: String) throws
    /// - Throws: `ModelError`, `SafeTensorsError` naming the file.
    static func load(_ sources: RewardSources) throws -> LoadedReward
}

extension FrozenRewardLoader {
    static var additionalFiles: [String] { [] }
    static func check(prompt: String) throws {}
}

/// What a reward is loaded from.
struct RewardSources: Sendable {
    /// Of its model.
    let folder: String
    let engine: any Engine
    let dtype: DType
    /// Images computed at once.
    let chunks: Chunks
    let references: FrozenReward.References
}

/// What a reward's loader makes.
struct LoadedReward: Sendable {
    /// How much of a prompt is read; nil for rewards of images alone.
    var promptReader: PromptReader?
    /// A sentence that names what of the model's folder was not read; nil where all was.
    var leftOut: String?
    /// Maps of images of one prompt and one size; nil where the score is no differentiable function of what the model sees.
    var maps: (@Sendable (_ images: [RGBImage], _ prompt: String, _ attribution: Attribution) throws -> RewardMaps)?
    /// Scores of images, at least one, and their prompts; images run on the lanes.
    let score: @Sendable (_ images: [RGBImage], _ prompts: [String], _ lanes: Lanes) throws -> [Float]
}
