/// Advantages of the latents' tokens, each against the same place in the other images of the group.
///
/// With s_ik the reward map of image i, averaged over token k and blurred: d_ik = s_ik - mean over the group of s_jk, and
/// A_ik = w_image A_i + w_patch d_ik / (deviation + 1e-4), A_i the image's own advantage. The deviation is the population one of
/// all d of the epoch (`global`) or of the group (`group`), and not of s: what places differ by is not what images differ by.
/// Computed in double precision.
///
/// - Source: ours; docs/method.md, "An advantage for every patch".
public struct TokenAdvantages: Sendable, Equatable {
    /// The tokens' places.
    public let grid: PatchGrid
    /// One list a group: members in order, the tokens of each row by row; not clamped.
    public let values: [[Double]]
    /// Population deviation of all d of the epoch.
    public let deviation: Double

    /// - Parameters:
    ///   - maps: of each group, any grid.
    ///   - grid: the tokens'.
    ///   - images: the same groups' advantages.
    ///   - scope: whose deviation divides.
    /// - Precondition: one map a member.
    public init(
        maps: [RewardMaps], grid: PatchGrid, images: [[Double]], credit: PatchCredit, deviation scope: DeviationScope
    ) {
        precondition(maps.map(\.values.count) == images.map(\.count), "token advantages: a member without a map")
        let differences = maps.map { Self.differences($0.resampled(to: grid).blurred(credit.blur).values) }
        let all = Moments(differences.flatMap { $0.joined() }).deviation
        values = zip(differences, images).map { group, images in
            let deviation = scope == .global ? all : Moments(group.flatMap { $0 }).deviation
            return zip(group, images).flatMap { image, whole in
                image.map {
                    credit.imageWeight * whole + credit.patchWeight * $0 / (deviation + Advantages.epsilon)
                }
            }
        }
        self.grid = grid
        deviation = all
    }

    /// Each image's map less the group's mean map.
    private static func differences(_ maps: [[Double]]) -> [[Double]] {
        let means = maps[0].indices.map { place in maps.reduce(0) { $0 + $1[place] } / Double(maps.count) }
        return maps.map { zip($0, means).map { $0 - $1 } }
    }
}

/// What a token's advantage is made of.
public struct PatchCredit: Sendable, Equatable {
    /// Weight of the image's own advantage.
    public let imageWeight: Double
    /// Weight of what the reward map says of the token's place.
    public let patchWeight: Double
    /// Deviation of the Gaussian that smooths maps, in tokens; 0 for none.
    public let blur: Double

    /// All three.
    public init(imageWeight: Double, patchWeight: Double, blur: Double) {
        self.imageWeight = imageWeight
        self.patchWeight = patchWeight
        self.blur = blur
    }
}

extension PolicySettings {
    /// How tokens are credited; nil where an image has one advantage.
    public var patchCredit: PatchCredit? {
        switch advantage {
        case .image: nil
        case .patch: PatchCredit(imageWeight: 0, patchWeight: 1, blur: patchBlur)
        case .both: PatchCredit(imageWeight: 1, patchWeight: patchWeight, blur: patchBlur)
        }
    }
}
