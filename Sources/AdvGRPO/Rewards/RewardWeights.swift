/// The weights of the reward's components, by their names; components that are not named have weight 0.
public struct RewardWeights: Sendable, Equatable, Codable, ExpressibleByDictionaryLiteral {
    private var weights = Dictionary(uniqueKeysWithValues: RewardComponent.allCases.map { ($0, 0.0) })

    /// Weight 1 for the released recipe, `dino_patch`.
    public init() { self[.patch] = 1 }

    public init(dictionaryLiteral elements: (RewardComponent, Double)...) {
        for (component, weight) in elements { self[component] = weight }
    }

    /// - Throws: `DecodingError` for a name that no component has.
    public init(from decoder: any Decoder) throws {
        weights.merge(try [RewardComponent: Double](from: decoder)) { $1 }
    }

    public func encode(to encoder: any Encoder) throws { try weights.encode(to: encoder) }

    /// The weight of one component.
    public subscript(component: RewardComponent) -> Double {
        get { weights[component] ?? 0 }
        set { weights[component] = newValue }
    }

    /// The components that are computed, in the table's order.
    public var active: [RewardComponent] { RewardComponent.allCases.filter { self[$0] > 0 } }
}
