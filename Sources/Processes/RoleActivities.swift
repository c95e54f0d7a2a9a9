public import Protocol

/// What the reward server's compute thread does.
public enum RewardServerActivity: String, RoleActivity {
    /// Loads models.
    case starting
    /// Waits for requests.
    case idle
    /// Scores images.
    case scoring
    /// Trains the discriminator.
    case training
    /// Gives or takes its state.
    case state
    /// Waits for rewards of one's own.
    case rewardProcesses

    public var meaning: String {
        switch self {
        case .starting: "loads models and checks the references"
        case .idle: "waits for requests"
        case .scoring: "scores images"
        case .training: "trains the discriminator, or measures it for the schedule"
        case .state: "gives its state for a snapshot, or takes one"
        case .rewardProcesses: "has nothing to compute, and waits for the answers of reward processes"
        }
    }
}

/// What a relay does.
public enum RelayActivity: String, RoleActivity {
    /// Nobody asks.
    case idle
    /// At least one request is in progress.
    case serving

    public var meaning: String {
        switch self {
        case .idle: "nobody asks"
        case .serving: "has at least one request in progress, fetching from the learner included"
        }
    }
}

/// What a worker does.
extension Heartbeat.State: RoleActivity {
    public var meaning: String {
        switch self {
        case .starting: "loads its model and finds the learner"
        case .loadingWeights: "waits for weights and builds the policy from them"
        case .waiting: "asks for a lease, or waits until it may ask again"
        case .rollingOut: "samples and decodes"
        case .scoring: "waits for scores"
        case .training: "makes the gradient of a group"
        case .reporting: "delivers a group or a gradient"
        }
    }
}
