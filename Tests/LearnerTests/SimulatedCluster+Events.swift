import Protocol
import Runtime
import SafeTensors

@testable import Learner

extension SimulatedCluster {
    mutating func handle(_ event: Event) throws {
        switch event {
        case .arrival(let index, let processID, let request, let body):
            guard learner != nil else { return }
            let answer = try learnerAnswers(body, of: workers[index].name)
            send(.answer(worker: index, processID: processID, request: request, answer), of: index)
        case .answer(let index, let processID, let request, let answer):
            guard workers[index].processID == processID, workers[index].request == request else { return }
            take(answer, worker: index)
        case .resend(let index, let processID, let request, let body):
            guard workers[index].processID == processID, workers[index].request == request else { return }
            post(body, worker: index)
        case .heartbeat(let index, let processID):
            guard workers[index].processID == processID, case let state = workers[index].state else { return }
            if case .down = state { return }
            let group: GroupID? = if case .working(let lease) = state { lease.group } else { nil }
            send(.arrival(worker: index, processID: processID, request: -1, .heartbeat(group)), of: index)
            queue.push(.heartbeat(worker: index, processID: processID), at: now + 100)
        case .done(let index, let processID, let lease):
            guard workers[index].processID == processID, case .working = workers[index].state else { return }
            deliver(lease, worker: index)
        case .start(let index): start(worker: index)
        case .tick:
            tick()
            queue.push(.tick, at: now + 25)
        case .trained(let timeline) where timeline == self.timeline: finishTraining()
        case .trained: break
        case .startLearner: startLearner()
        case .startRewardServer:
            // Without a state until the learner restores one; it notices at its next tick.
            note("reward server starts")
            if timeline == 0 { rewardVersion = 0 }
        case .chaos:
            disturbances -= 1
            guard disturbances >= 0 else { return }
            disturb()
            let delay = pick(50...1500)
            queue.push(.chaos, at: now + delay)
        }
    }

    // MARK: Network

    /// Hands a message to the network, which may lose, repeat and delay it.
    private mutating func send(_ event: Event, of worker: Int) {
        guard workers[worker].cutOffUntil <= now, !chance(5) else { return }
        for _ in 0..<(chance(5) ? 2 : 1) {
            let delay = chance(5) ? pick(50...(worker == 0 ? 200 : 9000)) : pick(1...20)
            queue.push(event, at: now + delay)
        }
    }

    /// Sends a worker's request, and again while no answer comes.
    private mutating func post(_ body: Body, worker index: Int) {
        let worker = workers[index]
        send(.arrival(worker: index, processID: worker.processID, request: worker.request, body), of: index)
        let delay = pick(60...200)
        queue.push(
            .resend(worker: index, processID: worker.processID, request: worker.request, body), at: now + delay)
    }

    private mutating func ask(_ body: Body, worker index: Int) {
        workers[index].request += 1
        workers[index].state = .asking
        post(body, worker: index)
    }

    // MARK: Worker

    private mutating func start(worker index: Int) {
        workers[index].processID += 1
        note("\(workers[index].name) starts as process \(workers[index].processID)")
        introduce(worker: index)
        queue.push(.heartbeat(worker: index, processID: workers[index].processID), at: now + 100)
    }

    private mutating func introduce(worker index: Int) {
        ask(
            .hello(
                Hello(
                    role: .rolloutWorker, name: workers[index].name,
                    process: ProcessDescription(
                        host: "", processID: workers[index].processID, processor: "", engine: "", program: "1.0.0"),
                    settingsDigest: "settings",
                    models: ["model/transformer": "a"])), worker: index)
    }

    private mutating func take(_ answer: Answer, worker index: Int) {
        switch answer {
        case .unknown: introduce(worker: index)
        case .welcome, .acknowledged: ask(.lease, worker: index)
        case .lease(.stop): workers[index].state = .down
        case .lease(.wait(_, let milliseconds)):
            // The answer is taken; the next question comes later.
            workers[index].request += 1
            let worker = workers[index]
            queue.push(
                .resend(worker: index, processID: worker.processID, request: worker.request, .lease),
                at: now + milliseconds)
        case .lease(.lease(let lease)):
            workers[index].request += 1
            workers[index].state = .working(lease)
            if workers[index].kind == .stuck { return }
            let delay = index > 0 && chance(3) ? pick(200...6000) : pick(5...120)
            queue.push(.done(worker: index, processID: workers[index].processID, lease), at: now + delay)
        }
    }

    /// A worker has finished with a group, well or badly.
    private mutating func deliver(_ lease: Lease, worker index: Int) {
        let worker = workers[index]
        if worker.kind == .dropping { return ask(.lease, worker: index) }
        if worker.kind == .failing || worker.kind == .honest && Self.isImpossible(lease.group) {
            let failure = GroupFailure(
                worker: worker.name, leaseID: lease.leaseID, group: lease.group, cause: "cannot be made")
            return ask(.failure(failure), worker: index)
        }
        guard let version = rewardVersion else {
            return queue.push(.done(worker: index, processID: worker.processID, lease), at: now + 50)
        }
        let policy = lease.weights.version.rawValue
        var executed = lease
        executed.weights.digest = Self.digest(worker.kind == .foreign ? policy + 1 : policy)
        let scoredBy = DiscriminatorVersion(rawValue: worker.kind == .misjudging ? version + 1 : version)
        ask(
            .result(
                GroupResult(
                    of: executed, by: worker.name,
                    GroupResult.Trajectory(
                        latents: Self.number, logProbabilities: Self.number, stepIndices: Self.number),
                    Scores(discriminatorVersion: scoredBy, rewards: Self.number), seconds: [:])), worker: index)
    }

    private static let number = TensorPayload(floats: [1])

    // MARK: Learner

    private mutating func learnerAnswers(_ body: Body, of name: String) throws -> Answer {
        switch body {
        case .hello(let hello):
            _ = try learner?.answer(hello, now: now)
            return .welcome
        case .lease:
            do {
                let request = LeaseRequest(worker: name)
                guard let answer = try learner?.answer(request, now: now) else { return .unknown }
                if case .lease(let lease) = answer {
                    note("\(name) gets \(lease.group), lease \(lease.leaseID)")
                    try checkGiven(lease, to: name)
                }
                return .lease(answer)
            } catch is Failure { return .unknown }
        case .result(let result):
            let verdict = learner?.answer(result, now: now).verdict
            note("\(name) delivers \(result.group): \(verdict.map { "\($0)" } ?? "")")
            if verdict == .accepted { try checkAccepted(result) }
            return .acknowledged
        case .failure(let failure):
            note("\(name) fails \(failure.group)")
            _ = learner?.answer(failure, now: now)
            return .acknowledged
        case .heartbeat(let group):
            _ = learner?.answer(Heartbeat(worker: name, state: .rollingOut, group: group), now: now)
            return .acknowledged
        }
    }

    private mutating func startLearner() {
        note("learner starts")
        learner = LearnerState(
            runID: RunID(rawValue: "simulated")!, contract: .test(memberCount: 1), settingsDigest: "settings",
            models: ["model/transformer": "a"],
            ledger: Ledger(leaseMilliseconds: Self.leaseMilliseconds, firstLease: now * 1000))
        goBack()
    }

    /// The learner returns to its snapshot and restores the reward server to it, as `TrainingRun.runFromSnapshot`.
    private mutating func goBack() {
        timeline += 1
        note("back to epoch \(snapshot.epoch)")
        isTraining = false
        trained = snapshot.trained
        epoch = snapshot.epoch
        learner?.ledger.restore(snapshot.counters)
        learner?.results = [:]
        rewardVersion = epoch
        openEpoch()
    }

    private mutating func openEpoch() {
        learner?.weights = try? PublishedWeights(
            version: PolicyVersion(rawValue: epoch), digest: Self.digest(epoch), tensors: [], bytes: SharedBytes())
        learner?.discriminatorVersion = DiscriminatorVersion(rawValue: epoch)
        learner?.epoch = epoch
        learner?.results = [:]
        learner?.ledger.open(epoch: epoch, prompts: Array(repeating: "p", count: Self.groups), now: now)
        learner?.isLeasing = true
        accepted = []
        held = [:]
    }

    private mutating func tick() {
        guard let state = learner else { return }
        if rewardVersion == nil { return goBack() }
        guard !isTraining else { return }
        if state.ledger.isComplete {
            note("training on epoch \(epoch)")
            learner?.isLeasing = false
            isTraining = true
            let delay = pick(20...300)
            queue.push(.trained(timeline: timeline), at: now + delay)
        } else {
            learner?.ledger.expire(now: now)
        }
    }

    private mutating func finishTraining() {
        guard let state = learner, isTraining else { return }
        if rewardVersion == nil { return goBack() }
        trained += state.ledger.scoredGroups.compactMap { state.results[$0] }.map {
            Trained(
                group: $0.group, policy: $0.policyVersion.rawValue, discriminator: $0.discriminatorVersion.rawValue)
        }
        learner?.ledger.train(now: now)
        isTraining = false
        epoch += 1
        rewardVersion = epoch
        if epoch == Self.epochs {
            isFinished = true
        } else {
            if chance(60), let counters = learner?.ledger.counters {
                snapshot = Snapshot(epoch: epoch, counters: counters, trained: trained)
            }
            openEpoch()
        }
    }

    // MARK: Deaths

    private mutating func disturb() {
        // The honest worker that lives is not touched; with nobody else, servers die more often.
        let index = workers.count > 1 ? pick(1...workers.count - 1) : 0
        switch index == 0 ? pick(7...9) : pick(0...9) {
        case 0...3:
            note("\(workers[index].name) dies")
            workers[index].state = .down
            workers[index].processID += 1
            let delay = pick(20...3000)
            queue.push(.start(worker: index), at: now + delay)
        case 4...6:
            note("\(workers[index].name) is cut off")
            workers[index].cutOffUntil = now + pick(100...6000)
        case 7 where learner != nil:
            note("learner dies")
            learner = nil
            timeline += 1
            let delay = pick(50...1000)
            queue.push(.startLearner, at: now + delay)
        case 8:
            note("reward server dies")
            rewardVersion = nil
            let delay = pick(50...500)
            queue.push(.startRewardServer, at: now + delay)
        default: break
        }
    }
}
