/// A reward of one's own: a process, in any language, that answers for the images of a group with a number each.
///
/// Whoever writes it chooses its name; settings, the wire and metrics call it by that name as they do the rows of
/// `RewardComponent`.
public struct RewardProcess: Sendable, Equatable {
    /// Where it listens: `tcp://HOST:PORT` or `ipc://PATH`.
    public var endpoint = ""
    /// Weight of its values in the reward; 0: it is not asked.
    public var weight = 1.0
    /// Whether it tells where in an image its value comes from, in runs that credit patches.
    public var maps = false
    /// Seconds after which it is asked again.
    public var timeout = 30.0
    /// Seconds of all tries together, after which the group's scoring fails.
    public var patience = 100.0

    /// The defaults, without a place.
    public init() {}

    /// What all roles of a run must agree on: not where the process is, nor how long it may take.
    public var ofMethod: RewardProcess {
        var shared = RewardProcess()
        (shared.weight, shared.maps) = (weight, maps)
        return shared
    }

    /// Documentation and check of every key.
    public static let keys: [SettingKey<RewardProcess>] = [
        .make(
            "endpoint", .text, "tcp://HOST:PORT or ipc://PATH", "",
            "Where the process NAME listens, which answers the reward server's `rewardRequest` (protocol.md). NAME is a name of "
                + "one's own: a letter, then letters, digits and _, 40 at most.", "own"
        ) { process in
            let isPlace = ["tcp://", "ipc://"].contains { process.endpoint.hasPrefix($0) && process.endpoint != $0 }
            return isPlace
                ? nil
                : "must be tcp://HOST:PORT or ipc://PATH, where the process listens, not "
                    + (process.endpoint.isEmpty ? "nothing" : process.endpoint)
        },
        .number(
            "weight", \.weight, .between(0, 1e6), "Weight of its values in the reward; 0: it is not asked.",
            source: "own"),
        .boolean(
            "maps", \.maps,
            "Whether it tells where in an image its value comes from, which policy.advantage patch and both ask for.",
            source: "own"),
        .number(
            "timeout", \.timeout, .between(0.01, 3600), unit: "seconds",
            "Time after which it is asked again; groups of other workers that wait for it count.", source: "own"),
        .number(
            "patience", \.patience, .between(0.01, 3600), unit: "seconds",
            "Time of all tries together, after which the group's scoring fails and the group goes to another worker; at least "
                + "timeout.", source: "own"),
    ]

    /// Names that metrics have a meaning for: `reward.mean` is the reward's mean, not a component's.
    private static let takenNames: Set = ["mean", "deviation", "groupDeviation", "zeroDeviationRatio"]

    /// Why a process cannot have a name; nil where it can.
    static func violation(ofName name: String) -> String? {
        let letters = name.utf8.map { (UInt8(ascii: "a")...UInt8(ascii: "z")).contains($0 | 0x20) }
        let others = name.utf8.map { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) || $0 == UInt8(ascii: "_") }
        guard letters.first == true, zip(letters, others).allSatisfy({ $0 || $1 }), name.utf8.count <= 40 else {
            return "must be a letter, then letters, digits and _, 40 characters at most"
        }
        if RewardComponent(rawValue: name) != nil {
            return "is a reward of the program's own, whose weight is reward.weights.\(name); choose another name"
        }
        return takenNames.contains(name) ? "is the name of another figure, reward.\(name); choose another name" : nil
    }
}

extension RewardProcess: Codable {
    private enum CodingKeys: String, CodingKey { case endpoint, weight, maps, timeout, patience }

    /// Keys that are not there have their defaults.
    public init(from decoder: any Decoder) throws {
        self.init()
        let values = try decoder.container(keyedBy: CodingKeys.self)
        endpoint = try values.decodeIfPresent(String.self, forKey: .endpoint) ?? endpoint
        weight = try values.decodeIfPresent(Double.self, forKey: .weight) ?? weight
        maps = try values.decodeIfPresent(Bool.self, forKey: .maps) ?? maps
        timeout = try values.decodeIfPresent(Double.self, forKey: .timeout) ?? timeout
        patience = try values.decodeIfPresent(Double.self, forKey: .patience) ?? patience
    }
}

extension MethodSettings {
    /// The rewards of one's own that count, by name.
    public var activeRewardProcesses: [(name: String, process: RewardProcess)] {
        rewardProcesses.sorted { $0.key < $1.key }.filter { $0.value.weight > 0 }.map { ($0.key, $0.value) }
    }

    /// Names of all rewards that are combined.
    public var rewardNames: [String] { reward.weights.active.map(\.rawValue) + activeRewardProcesses.map(\.name) }

    /// The processes' keys as settings have them, for any name; their values are checked by `processViolations`.
    static let processKeys = RewardProcess.keys.map { key in
        var description = key.description
        description.path = "rewardProcesses.\(SettingDescription.anyName).\(description.path)"
        return SettingKey<MethodSettings>(description) { _ in nil }
    }

    /// Names and values that reward processes may not have.
    func processViolations() -> [SettingViolation] {
        rewardProcesses.sorted { $0.key < $1.key }.flatMap { name, process in
            var violations = RewardProcess.keys.violations(in: process)
            if let violation = RewardProcess.violation(ofName: name) {
                violations.append(.init(path: "", message: violation))
            }
            if process.patience < process.timeout {
                violations.append(
                    .init(
                        path: "patience",
                        message: "must be at least timeout (\(shortest(process.timeout))), "
                            + "not \(shortest(process.patience))"))
            }
            return violations.map { $0.nested(under: "rewardProcesses.\(name)") }
        }
    }
}
