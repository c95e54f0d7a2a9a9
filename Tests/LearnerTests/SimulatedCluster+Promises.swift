import Protocol
import WeightsTransfer

@testable import Learner

extension SimulatedCluster {
    /// What must hold after every event.
    func check() throws {
        guard let learner else { return }
        var holders: Set<String> = []
        for entry in TaskKind.allCases.flatMap(learner.ledger.entries) {
            switch entry.state {
            case .leased(let worker, let lease, let until):
                guard holders.insert(worker).inserted else {
                    throw Violation(description: "\(worker) holds two tasks")
                }
                let given = held[lease.rawValue] ?? now
                guard until - given <= learner.ledger.longestLeaseMilliseconds else {
                    throw Violation(description: "lease \(lease) of \(entry.task) lasts until \(until)")
                }
                // The learner looks every 25 ms.
                guard !learner.isLeasing || now <= until + 25 else {
                    throw Violation(
                        description: "lease \(lease) of \(entry.task) ended at \(until), is held at \(now)")
                }
            case .done where entry.task.kind == .gradient:
                guard learner.step?.arrived[entry.task.group]?.weightsDigest == learner.step?.weights.digest else {
                    throw Violation(description: "\(entry.task) is done without a gradient of its step's weights")
                }
            case .closed where entry.task.kind == .gradient: break
            case .done, .closed:
                let group = entry.task.group
                guard let result = learner.results[group] else {
                    throw Violation(description: "\(group) is \(entry.state) without a result")
                }
                let players = undisturbed[group.epoch].players
                guard result.discriminatorVersion.rawValue == players.discriminatorVersion,
                    result.policyVersion.rawValue == players.policyVersion, result.weightsDigest == players.digest
                else {
                    throw Violation(
                        description: "\(group) was made by policy \(result.policyVersion) and scored by "
                            + "discriminator \(result.discriminatorVersion)")
                }
            case .quarantined:
                guard entry.task.kind == .rollout, Self.isImpossible(entry.task.group) else {
                    throw Violation(description: "\(entry.task) can be made and is quarantined")
                }
            case .open: break
            }
        }
        let gradients = learner.ledger.entries(of: .gradient)
        let ahead = gradients.drop { $0.state == .closed }.lastIndex { $0.state != .open && $0.state != .closed }
        let closed = gradients.prefix { $0.state == .closed }.count
        guard (ahead ?? closed) - closed < Self.window else {
            throw Violation(description: "gradient \(ahead ?? 0) is out while \(closed) are added")
        }
        let totals = learner.ledger.counters
        guard totals.trained == trained.count else {
            throw Violation(description: "\(totals.trained) groups counted as trained, \(trained.count) were")
        }
        guard expected.starts(with: trained) else {
            throw Violation(description: "trained in the order \(trained)")
        }
    }

    /// A lease that was just given.
    func checkGiven(_ lease: Lease, to worker: String) throws {
        let digest = lease.gradient == nil ? players.digest : learner?.step?.weights.digest
        guard lease.weights.version.rawValue == players.policyVersion, lease.group.epoch == epoch,
            lease.weights.digest == digest
        else { throw Violation(description: "\(worker) was sent to \(lease) in epoch \(epoch)") }
        if held[lease.leaseID.rawValue] != nil { return }
        guard numbers.insert(lease.leaseID.rawValue).inserted else {
            throw Violation(description: "lease number \(lease.leaseID) was given twice")
        }
        held[lease.leaseID.rawValue] = now
    }

    /// A result that was just accepted.
    func checkAccepted(_ result: GroupResult) throws {
        guard accepted.insert(result.group).inserted else {
            throw Violation(description: "\(result.group) was accepted twice")
        }
        guard result.weightsDigest == players.digest else {
            throw Violation(description: "\(result.group) was accepted from foreign weights")
        }
    }

    /// A gradient that was just accepted.
    func checkAccepted(_ result: GradientResult) throws {
        guard acceptedGradients.insert(result.task).inserted else {
            throw Violation(description: "\(result.task) was accepted twice")
        }
        guard result.digest == ContentDigest(of: result.tensors) else {
            throw Violation(description: "\(result.task) was accepted under a forged digest")
        }
    }
}
