import AdvGRPO
import Configuration
import MethodModels
import TensorCore

/// What the run's supervised epochs read.
extension TrainingRun {
    /// The method's supervised steps on this run's references.
    func flowMatching() throws -> FlowMatching {
        let model = policy.model
        return FlowMatching(
            settings: settings.method.supervised, referenceCount: try references().count,
            seed: UInt64(settings.seed), chunks: Chunks(size: settings.method.rollout.chunkSize)
        ) { model.sigma(at: $0) }
    }

    /// The references as latents.
    ///
    /// - Throws: `DatasetError`, `ModelError`, `SafeTensorsError` naming the file.
    func references() throws -> SupervisedReferences {
        if let supervisedReferences { return supervisedReferences }
        let loaded = try SupervisedReferences(settings, prompts: prompts, policy: policy)
        supervisedReferences = loaded
        return loaded
    }
}
