import AdvGRPO
public import Configuration
import Processes
import Protocol
public import Transport

/// A process that gives a reward of one's own, as the reward server knows it.
public struct RewardProcessPeer: Sendable {
    /// The reward's name in the settings.
    public let name: String
    let settings: RewardProcess
    let client: Client

    /// Those of a run that count. They need not run yet.
    ///
    /// - Throws: `TransportError` naming an endpoint or a key file; `insecure` for one beyond this machine without keys.
    public static func all(_ settings: Settings, on loop: SocketLoop) throws -> [RewardProcessPeer] {
        try settings.method.activeRewardProcesses.map { name, process in
            let key = "rewardProcesses.\(name).endpoint"
            let endpoint = try Endpoint(process.endpoint)
            guard !endpoint.isReachableFromOutside || !settings.cluster.keys.isEmpty || settings.cluster.insecure else {
                throw TransportError(
                    .insecure, "\(key) \(endpoint) is beyond this machine, and there are no keys",
                    remedy:
                        "make keys with `advgrpo keygen` and name their folder in cluster.keys, or set cluster.insecure to "
                        + "true on a closed network")
            }
            var options = ClientOptions()
            options.role = .rewardServer
            options.security = try ClusterSecurity.rewardProcess(name, keys: settings.cluster.keys)
            // Asking again is this side's matter: a process of thirty lines does not know a repetition.
            options.resendInterval = .seconds(process.timeout)
            return RewardProcessPeer(
                name: name, settings: process, client: try Client(endpoint, on: loop, options: options))
        }
    }

    /// Where it is, for people.
    public var place: String { "reward process \(name) at \(client.endpoint)" }

    /// Whether it is there.
    ///
    /// - Throws: `closed`.
    public func isConnected() throws(TransportError) -> Bool { try client.isConnected() }
}
