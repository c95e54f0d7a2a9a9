import Protocol

@testable import Learner

extension SimulatedCluster {
    /// What must hold after every event.
    func check() throws {
        guard let learner else { return }
        var holders: Set<String> = []
        for entry in learner.ledger.entries {
            switch entry.state {
            case .leased(let worker, let lease, let until):
                guard holders.insert(worker).inserted else {
                    throw Violation(description: "\(worker) holds two groups")
                }
                let given = held[lease.rawValue] ?? now
                guard until - given <= learner.ledger.longestLeaseMilliseconds else {
                    throw Violation(description: "lease \(lease) of \(entry.group) lasts until \(until)")
                }
                // The learner looks every 25 ms.
                guard !learner.isLeasing || now <= until + 25 else {
                    throw Violation(
                        description: "lease \(lease) of \(entry.group) ended at \(until), is held at \(now)")
                }
            case .scored, .trained:
                guard let result = learner.results[entry.group] else {
                    throw Violation(description: "\(entry.group) is \(entry.state) without a result")
                }
                let players = undisturbed[entry.group.epoch].players
                guard result.discriminatorVersion.rawValue == players.discriminatorVersion,
                    result.policyVersion.rawValue == players.policyVersion, result.weightsDigest == players.digest
                else {
                    throw Violation(
                        description: "\(entry.group) was made by policy \(result.policyVersion) and scored by "
                            + "discriminator \(result.discriminatorVersion)")
                }
            case .quarantined:
                guard Self.isImpossible(entry.group) else {
                    throw Violation(description: "\(entry.group) can be made and is quarantined")
                }
            case .open: break
            }
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
        guard lease.weights.version.rawValue == players.policyVersion, lease.group.epoch == epoch,
            lease.weights.digest == players.digest
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
}
