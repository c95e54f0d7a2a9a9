import TensorCore

/// The reference images of all prompts and where their features come from.
///
/// Images are numbered in order of the prompts. Those of held-out prompts are never drawn to train the
/// discriminator; they measure it.
public struct ReferenceImages: Sendable {
    /// One prompt's references.
    public struct Prompt: Sendable, Equatable {
        /// The prompt, as written in the data set.
        public let text: String
        /// Number of its images.
        public let imageCount: Int
        /// Whether its images only measure.
        public let isHeldOut: Bool

        /// One prompt's references.
        public init(text: String, imageCount: Int, isHeldOut: Bool = false) {
            self.text = text
            self.imageCount = imageCount
            self.isHeldOut = isHeldOut
        }
    }

    /// Numbers of the images that train, in order.
    public let training: [Int]
    /// Numbers of the images that measure, in order.
    public let heldOut: [Int]
    /// Features of images by number, for the heads of the running discriminator. Kept in memory or computed on demand.
    public let features: @Sendable (_ images: [Int], _ purpose: FeaturePurpose) throws -> FeatureTable

    private let ranges: [String: Range<Int>]

    /// - Precondition: prompts differ and have at least one image each.
    public init(
        prompts: [Prompt],
        features: @escaping @Sendable (_ images: [Int], _ purpose: FeaturePurpose) throws -> FeatureTable
    ) {
        var ranges: [String: Range<Int>] = [:]
        var (training, heldOut): ([Int], [Int]) = ([], [])
        var next = 0
        for prompt in prompts {
            precondition(prompt.imageCount >= 1 && ranges[prompt.text] == nil, "references of \"\(prompt.text)\"")
            let range = next..<next + prompt.imageCount
            ranges[prompt.text] = range
            if prompt.isHeldOut { heldOut += range } else { training += range }
            next = range.upperBound
        }
        self.ranges = ranges
        self.training = training
        self.heldOut = heldOut
        self.features = features
    }

    /// Numbers of a prompt's images.
    ///
    /// - Throws: `MissingReferences`.
    public func images(of prompt: String) throws(MissingReferences) -> [Int] {
        guard let range = ranges[prompt] else { throw MissingReferences(prompt: prompt) }
        return Array(range)
    }
}

/// A prompt that the data set has no references for.
public struct MissingReferences: Error, Sendable, Equatable, CustomStringConvertible {
    /// The prompt.
    public let prompt: String

    public var description: String { "no reference images for the prompt \"\(prompt)\"" }
}
