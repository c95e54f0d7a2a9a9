import Foundation
import LibC
import Testing

extension ProcessTests {
    /// `advgrpo health` and `advgrpo status`.
    @Suite("Health and status", .timeLimit(.minutes(2)))
    struct AskTests {
        private func json(_ text: String) throws -> [String: Any] {
            try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any], "\(text)")
        }

        /// Asks until the answer comes with a status: the run moves on meanwhile.
        private func ask(
            _ workspace: Workspace, _ command: String, _ role: String, until status: Int32 = 0
        ) async throws -> [String: Any] {
            let endpoint = "ipc://\(workspace.path)/run/sockets/\(role)"
            let answer = try await eventually("\(command) of \(role)") { () -> Finished? in
                let answer = try await workspace.run(command, endpoint, "--json")
                return answer.exit == .status(status) ? answer : nil
            }
            return try json(answer.output)
        }

        @Test("both servers tell how they are while a run is going on, and the learner who waits for whom")
        func running() async throws {
            try await withWorkspace { workspace in
                let train = try workspace.start(
                    "train", "settings.yaml", "--run-dir", "run", "--set", "run.epochs=1000")
                let run = workspace.files("run")
                try await eventually("two epochs") { run.metrics.count >= 2 ? true : nil }
                let reward = try await ask(workspace, "health", "reward-server")
                #expect(reward["role"] as? String == "rewardServer")
                #expect(reward["serving"] as? Bool == true)
                #expect((reward["runID"] as? String)?.hasPrefix("run-") == true)
                #expect(reward["version"] as? Int ?? 0 >= 1)
                #expect(reward["uptimeSeconds"] as? Double ?? 0 > 0)
                #expect(reward["memoryBytes"] as? Int ?? 0 > 1 << 20)
                #expect(reward["queueDepth"] is Int)
                let requests = try #require(reward["requests"] as? [String: [String: Any]])
                let scoring = try #require(requests["scoreRequest"])
                #expect(scoring["answered"] as? Int ?? 0 >= 4 && scoring["rejected"] as? Int == 0)
                let latency = try #require(scoring["latency"] as? [String: Double])
                #expect(latency["p50Milliseconds"] ?? 0 > 0)
                #expect(latency["p99Milliseconds"] ?? 0 >= latency["p50Milliseconds"] ?? 1)
                let counters = try #require(reward["counters"] as? [String: Double])
                #expect(counters["imagesScored"] ?? 0 >= 8 && counters["groupsScored"] ?? 0 >= 4)
                let detail = try #require(reward["detail"] as? [String: Any])
                for name in ["accuracy", "margin", "realMean", "fakeMean", "auc", "loss", "gradientNorm"] {
                    #expect(detail["discriminator.\(name)"] is Double, "\(name)")
                }
                let learner = try await ask(workspace, "health", "learner")
                #expect(learner["role"] as? String == "learner")
                #expect(learner["runID"] as? String == reward["runID"] as? String)
                #expect((learner["counters"] as? [String: Double])?["workers"] == 2)
                let worker = try await ask(workspace, "health", "worker-1")
                #expect(worker["role"] as? String == "rolloutWorker" && worker["serving"] as? Bool == true)
                #expect(worker["runID"] as? String == reward["runID"] as? String)
                #expect((worker["counters"] as? [String: Double])?["groupsFailed"] == 0)
                try await checkStatus(workspace)
                try await checkSeconds(workspace)
                train.signal(SIGINT)
                #expect(try await train.finish().exit == .status(0))
            }
        }

        /// What the roles say they did with their time adds up to the time that passed, on another process's clock.
        private func checkSeconds(_ workspace: Workspace) async throws {
            let parts = ["learner": "rollout", "reward-server": "scoring", "worker-0": "rollingOut"]
            for (role, part) in parts {
                var asked: [(begin: ContinuousClock.Instant, end: ContinuousClock.Instant, seconds: [String: Double])] =
                    []
                for _ in 0..<2 {
                    let begin = ContinuousClock.now
                    let health = try await ask(workspace, "health", role)
                    let seconds = try #require(health["seconds"] as? [String: Double])
                    let uptime = try #require(health["uptimeSeconds"] as? Double)
                    #expect(abs(seconds.values.reduce(0, +) - uptime) < 1e-6 * max(uptime, 1), "\(role): \(seconds)")
                    #expect(seconds[part] ?? 0 > 0, "\(role): \(seconds)")
                    asked.append((begin, .now, seconds))
                    try await Task.sleep(for: .seconds(1))
                }
                let grown = asked[1].seconds.values.reduce(0, +) - asked[0].seconds.values.reduce(0, +)
                let (least, most) = (asked[1].begin - asked[0].end, asked[1].end - asked[0].begin)
                #expect((least / .seconds(1)...most / .seconds(1)).contains(grown), "\(role): \(grown)")
            }
            let text = try await workspace.run("health", "ipc://\(workspace.path)/run/sockets/reward-server")
            #expect(text.output.contains("  time: ") && text.output.contains("%)"), "\(text.output)")
            #expect(
                text.output.contains("  scoreRequest: ") && text.output.contains(" answered; p50 "), "\(text.output)")
        }

        private func checkStatus(_ workspace: Workspace) async throws {
            let status = try await ask(workspace, "status", "learner")
            for name in [
                "runID", "program", "phase", "epoch", "policyVersion", "weightsDigest", "discriminatorVersion",
                "progress",
                "waits",
            ] {
                #expect(status[name] != nil, "\(name)")
            }
            #expect((status["weightsDigest"] as? String)?.count == 64)
            let workers = try #require(status["workers"] as? [[String: Any]])
            #expect(workers.compactMap { $0["name"] as? String } == ["worker-0", "worker-1"])
            for worker in workers {
                #expect(worker["program"] as? String == status["program"] as? String)
                let seconds = try #require(worker["seconds"] as? [String: Double])
                #expect(seconds["rollingOut"] ?? 0 > 0 && seconds["scoring"] ?? 0 > 0, "\(seconds)")
                #expect(worker["lastSeenSeconds"] as? Double ?? 100 < 10)
            }
            let groups = try #require(status["groups"] as? [[String: Any]])
            #expect(groups.count == 2)
            let states: Set = ["open", "leased", "scored", "trained"]
            for group in groups {
                #expect(states.contains(group["state"] as? String ?? ""))
                #expect(Workspace.trainingPrompts.contains(group["prompt"] as? String ?? ""))
            }
            let ledger = try #require(status["ledger"] as? [String: Int])
            #expect(ledger["trained"] ?? 0 >= 4 && ledger["quarantined"] == 0)
            let text = try await workspace.run("status", "ipc://\(workspace.path)/run/sockets/learner")
            #expect(text.exit == .status(0) && text.output.contains("worker-0"))
        }

        @Test("a reward server without a discriminator is not serving: status 1, and the reason")
        func notServing() async throws {
            try await withWorkspace { workspace in
                let server = try workspace.start("reward-server", "settings.yaml", "--run-dir", "run")
                let health = try await ask(workspace, "health", "reward-server", until: 1)
                #expect(health["serving"] as? Bool == false)
                #expect(health["reason"] as? String == "waiting for the learner")
                #expect(health["version"] == nil)
                server.signal(SIGTERM)
                #expect(try await server.finish().exit == .status(0))
            }
        }

        @Test(
            "nobody there: status 2 and one sentence that names the endpoint",
            arguments: ["tcp://127.0.0.1:9", "ipc://nobody"])
        func nobody(endpoint: String) async throws {
            try await withWorkspace { workspace in
                for command in ["health", "status"] {
                    let answer = try await workspace.run(command, endpoint, "--timeout", "0.3")
                    #expect(answer.exit == .status(2))
                    #expect(answer.output.isEmpty)
                    #expect(
                        answer.errors.hasPrefix("advgrpo: ") && answer.errors.contains(endpoint), "\(answer.errors)")
                    #expect(answer.errors.split(separator: "\n").count == 1, "\(answer.errors)")
                }
            }
        }
    }
}
