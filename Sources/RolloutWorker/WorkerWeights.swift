import ComputeRoles
import Configuration
import MethodModels
import NeuralNetworks
import Protocol
import TensorCore

/// The one version of the policy that a worker holds, ready to sample with.
final class WorkerWeights {
    private let policy: DiffusionPolicy
    private let store: WeightsStore
    private var held: (reference: WeightsReference, sampling: SamplingPolicy)?

    /// Holds none yet.
    init(policy: DiffusionPolicy, store: WeightsStore) {
        self.policy = policy
        self.store = store
    }

    /// What it was built from; nil while there is none.
    var reference: WeightsReference? { held?.reference }

    /// Whether this version is held.
    func holds(_ reference: WeightsReference) -> Bool { held?.reference == reference }

    /// The version that is held.
    ///
    /// - Throws: `staleVersion` when there is none.
    func sampling() throws(Failure) -> SamplingPolicy {
        guard let held else {
            throw Failure(code: .staleVersion, message: "no weights are held", remedy: "ask for a lease again")
        }
        return held.sampling
    }

    /// Lets go of the version; pieces that the next one has too need not be fetched again.
    func drop() { held = nil }

    /// Lets go of the version and of all its pieces.
    func forget() {
        held = nil
        store.forget()
    }

    /// Fetches what is missing of a version and builds the transformer. Blocks the calling thread.
    ///
    /// - Throws: as `WeightsStore.parameters`; `notOfThisRun` for weights of another type than the policy's.
    func fetch(_ reference: WeightsReference) throws {
        // Before the next one comes: two versions of merged weights would be the most that a worker ever holds.
        drop()
        let parameters = try store.parameters(reference.manifest, of: reference.digest, on: policy.engine)
        for (name, tensor) in policy.initialParameters.entries where parameters[name]?.dtype != tensor.dtype {
            throw Failure(
                code: .notOfThisRun,
                message:
                    "the weights' \(name) is \(parameters[name].map { "\($0.dtype)" } ?? "missing"), expected \(tensor.dtype)",
                remedy: "start learner and workers with the run's own settings.yaml")
        }
        held = (reference, try policy.sampling(parameters))
    }
}
