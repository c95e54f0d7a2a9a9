import AdvGRPO
import ComputeRoles
import Configuration
import Foundation
import MethodModels
import Processes
import Protocol
import TensorCore
import TestSupport
import Testing
import TinyRun

@testable import Learner

@Suite("A policy's snapshot", .timeLimit(.minutes(1)))
struct PolicySnapshotTests {
    @Test("counts that no run has are refused by file, name and range")
    func counts() throws {
        try withTemporaryFolder { folder in
            let settings = try TinyRun.load(in: folder)
            let policy = try DiffusionPolicy(
                PolicySource(path: settings.model, engine: OpenBLASEngine.shared, dtype: settings.precision.dtype),
                settings: settings.method.policy, seed: 7, embeddings: settings.data.embeddings)
            let version = PolicyVersion(rawValue: 2)
            try PolicyTrainer(policy: policy, version: version, optimizer: policy.settings.optimizer).write(
                to: folder, baseModel: settings.model)
            func refusal(_ counts: String) throws -> String? {
                try Data(counts.utf8).write(to: URL(fileURLWithPath: folder + "/policy.json"))
                do {
                    _ = try PolicyTrainer(
                        policy: policy, snapshot: folder, version: version, optimizer: policy.settings.optimizer)
                    return nil
                } catch let error as RuntimeError {
                    #expect(error.code == .corruptSnapshot && error.subject == folder + "/policy.json")
                    return error.message
                }
            }
            #expect(try refusal(#"{"optimizerUpdates":2,"averageUpdates":2,"samplingVersion":2}"#) == nil)
            for version in [-1, 0, 3, Int.max, Int.min] {
                #expect(
                    try refusal(#"{"optimizerUpdates":2,"averageUpdates":2,"samplingVersion":\#(version)}"#)
                        == "has samplingVersion \(version), expected 1 to 2")
            }
            #expect(try refusal(#"{"optimizerUpdates":-1,"averageUpdates":2,"samplingVersion":2}"#) != nil)
            #expect(try refusal(#"{"optimizerUpdates":2,"averageUpdates":-1,"samplingVersion":2}"#) != nil)
        }
    }
}
