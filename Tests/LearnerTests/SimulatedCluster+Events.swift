import Protocol
import SafeTensors
import WeightsTransfer

@testable import Learner

extension SimulatedCluster {
    func handle(_ event: Event) throws {
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
            queue.push(.tick, at: now + 25)
            try tick()
        case .startLearner: startLearner()
        case .startRewardServer: note("reward server starts")
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
    private func send(_ event: Event, of worker: Int) {
        guard workers[worker].cutOffUntil <= now, !chance(5) else { return }
        for _ in 0..<(chance(5) ? 2 : 1) {
            let delay = chance(5) ? pick(50...(worker == 0 ? 200 : 9000)) : pick(1...20)
            queue.push(event, at: now + delay)
        }
    }

    /// Sends a worker's request, and again while no answer comes.
    private func post(_ body: Body, worker index: Int) {
        let worker = workers[index]
        send(.arrival(worker: index, processID: worker.processID, request: worker.request, body), of: index)
        let delay = pick(60...200)
        queue.push(
            .resend(worker: index, processID: worker.processID, request: worker.request, body), at: now + delay)
    }

    private func ask(_ body: Body, worker index: Int) {
        workers[index].request += 1
        workers[index].state = .asking
        post(body, worker: index)
    }

    // MARK: Worker

    private func start(worker index: Int) {
        workers[index].processID += 1
        note("\(workers[index].name) starts as process \(workers[index].processID)")
        introduce(worker: index)
        queue.push(.heartbeat(worker: index, processID: workers[index].processID), at: now + 100)
    }

    private func introduce(worker index: Int) {
        ask(
            .hello(
                Hello(
                    role: .rolloutWorker, name: workers[index].name,
                    process: ProcessDescription(
                        host: "", processID: workers[index].processID, processor: "", engine: "", program: "1.0.0"),
                    settingsDigest: "settings",
                    models: ["model/transformer": "a"])), worker: index)
    }

    private func take(_ answer: Answer, worker index: Int) {
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
    private func deliver(_ lease: Lease, worker index: Int) {
        let worker = workers[index]
        if worker.kind == .dropping { return ask(.lease, worker: index) }
        if worker.kind == .failing || worker.kind == .honest && Self.isImpossible(lease.group) {
            let failure = GroupFailure(
                worker: worker.name, leaseID: lease.leaseID, group: lease.group, cause: "cannot be made")
            return ask(.failure(failure), worker: index)
        }
        guard let scorer = rewardServer, var policy = policies[lease.weights.digest] else {
            return queue.push(.done(worker: index, processID: worker.processID, lease), at: now + 50)
        }
        if worker.kind == .foreign { policy += 1 }
        let misjudges = worker.kind == .misjudging
        let images = SimulatedPlayers.images(lease.group, by: policy)
        let rewards = SimulatedPlayers.rewards(images, by: scorer.discriminator + (misjudges ? 1 : 0))
        var executed = lease
        executed.weights.digest = SimulatedPlayers.digest(of: policy)
        let scoredBy = DiscriminatorVersion(rawValue: scorer.discriminatorVersion + (misjudges ? 1 : 0))
        ask(
            .result(
                GroupResult(
                    of: executed, by: worker.name,
                    GroupResult.Trajectory(
                        latents: TensorPayload(floats: images), logProbabilities: TensorPayload(floats: [0, 0, 0]),
                        stepIndices: TensorPayload(int32s: [0])),
                    Scores(discriminatorVersion: scoredBy, rewards: TensorPayload(floats: rewards)), seconds: [:])),
            worker: index)
    }

    // MARK: Learner

    private func learnerAnswers(_ body: Body, of name: String) throws -> Answer {
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

    private func startLearner() {
        note("learner starts")
        learner = LearnerState(
            runID: RunID(rawValue: "simulated")!, contract: .test(memberCount: SimulatedPlayers.members),
            settingsDigest: "settings", models: ["model/transformer": "a"],
            ledger: Ledger(leaseMilliseconds: Self.leaseMilliseconds, firstLease: now * 1000))
    }

    // MARK: Deaths

    private func disturb() {
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
            (learner, trained) = (nil, [])
            let delay = pick(50...1000)
            queue.push(.startLearner, at: now + delay)
        case 8:
            note("reward server dies")
            rewardServer = nil
            let delay = pick(50...500)
            queue.push(.startRewardServer, at: now + delay)
        default: break
        }
    }
}
