import AdvGRPO
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
            let task: TaskID? = if case .working(let lease) = state { lease.task } else { nil }
            send(.arrival(worker: index, processID: processID, request: -1, .heartbeat(task)), of: index)
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
        (workers[index].trajectories, workers[index].fetching) = ([:], nil)
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
        case .welcome, .acknowledged, .stale: ask(.lease, worker: index)
        case .content(let tensors):
            workers[index].request += 1
            guard let lease = workers[index].fetching else { return ask(.lease, worker: index) }
            workers[index].trajectories[ContentDigest(of: tensors)] = tensors
            workers[index].state = .working(lease)
            let delay = pick(1...20)
            queue.push(.done(worker: index, processID: workers[index].processID, lease), at: now + delay)
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
            let failure = TaskFailure(
                worker: worker.name, leaseID: lease.leaseID, task: lease.task, cause: "cannot be made")
            return ask(.failure(failure), worker: index)
        }
        if let order = lease.gradient { return deliver(lease, order, worker: index) }
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
        let trajectory = GroupResult.Trajectory(
            latents: TensorPayload(floats: images), logProbabilities: TensorPayload(floats: [0, 0, 0]),
            stepIndices: TensorPayload(int32s: [0]))
        // Now and then one is pushed out by others.
        if !chance(20) {
            workers[index].trajectories[ContentDigest(of: trajectory.tensors)] = trajectory.tensors
        }
        ask(
            .result(
                GroupResult(
                    of: executed, by: worker.name, trajectory,
                    Scores(discriminatorVersion: scoredBy, rewards: TensorPayload(floats: rewards)), seconds: [:])),
            worker: index)
    }

    /// A worker has finished with a gradient, or finds that it lacks the trajectory.
    private func deliver(_ lease: Lease, _ order: GradientOrder, worker index: Int) {
        let worker = workers[index]
        guard let trajectory = worker.trajectories[order.trajectory] else {
            workers[index].fetching = lease
            return ask(.content(order.trajectory), worker: index)
        }
        guard var policy = policies[lease.weights.digest], let images = trajectory["latents"]?.floats else { return }
        if worker.kind == .foreign { policy += 1 }
        let gradient: TensorSet = [
            "policy": TensorPayload(floats: [
                SimulatedPlayers.gradient(images, lease.advantages?.floats ?? [], at: policy)
            ])
        ]
        var executed = lease
        executed.weights.digest = SimulatedPlayers.digest(of: policy)
        let statistics = GradientStatistics(
            sampleCount: 3, ratioCount: 3, loss: 0, distance: 0, squaredChange: 0, ratio: 3, above: 0, below: 0,
            smallestRatio: 1, largestRatio: 1, drifts: [.init(step: 0, sum: 0, count: 3)])
        ask(
            .gradient(
                GradientResult(
                    of: executed, order, by: worker.name, gradient: gradient,
                    digest: worker.kind == .misjudging ? order.trajectory : ContentDigest(of: gradient),
                    statistics: statistics, seconds: [:])),
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
                    note("\(name) gets \(lease.task), lease \(lease.leaseID)")
                    try checkGiven(lease, to: name)
                }
                return .lease(answer)
            } catch is Failure { return .unknown }
        case .result(let result):
            let verdict = learner?.answer(result, now: now).verdict
            note("\(name) delivers \(result.group): \(verdict.map { "\($0)" } ?? "")")
            if verdict == .accepted { try checkAccepted(result) }
            return .acknowledged
        case .gradient(let result):
            let defect = result.defect(.test(memberCount: SimulatedPlayers.members), ["policy": [1]], Self.rollout)
            let verdict = learner?.answer(result, refusing: defect, now: now).verdict
            note("\(name) delivers \(result.task): \(verdict.map { "\($0)" } ?? "")")
            if verdict == .accepted { try checkAccepted(result) }
            return .acknowledged
        case .content(let digest):
            do {
                guard let content = try learner?.answer(ContentRequest(content: digest)) else { return .unknown }
                return .content(content.tensors)
            } catch {
                return .stale
            }
        case .failure(let failure):
            note("\(name) fails \(failure.task)")
            _ = learner?.answer(failure, now: now)
            return .acknowledged
        case .heartbeat(let task):
            _ = learner?.answer(Heartbeat(worker: name, state: .rollingOut, task: task), now: now)
            return .acknowledged
        }
    }

    /// Of one step, of images of one number.
    private static let rollout: Rollout = {
        var settings = RolloutSettings(fidelity: .fixed)
        settings.steps = 2
        settings.groupSize = SimulatedPlayers.members
        settings.window = WindowSettings(size: 1, start: .fixed(0))
        return Rollout(settings: settings, sigmas: [1, 0.5, 0], latentShape: [1, 1, 1], seed: 1)
    }()

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
