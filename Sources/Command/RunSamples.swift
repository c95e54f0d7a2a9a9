import AdvGRPO
import ComputeRoles
import Configuration
import Datasets
import MethodModels
import NeuralNetworks
import Raster
import RewardServer
import RunFiles
import TensorCore

/// Images of a run's policies on training prompts: of the base, and of each snapshot. Steps, guidance, size and seed are those of the
/// run's rollouts; every policy begins with the same noise, and takes no noise on the way.
struct RunSamples {
    private static let imagesPerPrompt = 2

    private let settings: Settings
    private let run: String
    private let engine: any Engine
    private let prompts: [String]

    /// - Parameters:
    ///   - settings: of the run.
    ///   - run: its folder.
    ///   - promptCount: most prompts; they are spread evenly over the list.
    /// - Throws: `DatasetError`; `CommandFailure` for fewer than two prompts.
    init(_ settings: Settings, run: String, promptCount: Int, engine: any Engine) throws {
        self.settings = settings
        self.run = run
        self.engine = engine
        let all = try RunPrompts(settings).training
        guard all.count >= 2 else {
            throw CommandFailure(
                "\(settings.data.prompts) has one prompt to train on; a head is tried on two at least.")
        }
        let count = min(promptCount, all.count)
        prompts = (0..<count).map { all[$0 * all.count / count] }
    }

    /// The base and the snapshots, in order of their epochs.
    var sources: [Discriminators.Source] {
        let snapshots = SnapshotStore.snapshots(in: run + "/checkpoints").filter { $0.step > 0 }
        return [.init(name: "base") { try images(of: PolicyFolders(model: settings.model)) }]
            + snapshots.map { snapshot in
                .init(name: "epoch \(snapshot.step)") {
                    try SnapshotStore.verify(snapshot.path)
                    return try images(of: PolicyFolders(snapshot: snapshot.path, model: settings.model))
                }
            }
    }

    private func images(of folders: PolicyFolders) throws -> [DiscriminatorTrial.Images] {
        let policy = try DiffusionPolicy(
            PolicySource(
                path: folders.model, engine: engine, dtype: settings.precision.dtype, network: folders.transformer),
            settings: PolicySettings(fidelity: .fixed), seed: 0, embeddings: settings.data.embeddings)
        let velocity = try policy.velocity(merging: folders.lora.map { try LoRAAdapter(path: $0, engine: engine) })
        let rollout = settings.method.rollout
        let generator = try ImageGenerator(
            policy: policy, steps: rollout.steps, guidance: rollout.guidance, height: rollout.resolution,
            width: rollout.resolution, seed: UInt64(settings.seed), chunks: Chunks(size: rollout.chunkSize))
        let images = RGBImage.images(
            of: try generator.images(
                ImageGenerator.Order.all(prompts: prompts, count: Self.imagesPerPrompt), velocity: velocity,
                lanes: Lanes(count: settings.cluster.rewardServerThreads)))
        return prompts.enumerated().map { number, prompt in
            let first = number * Self.imagesPerPrompt
            return DiscriminatorTrial.Images(
                prompt: prompt, images: Array(images[first..<first + Self.imagesPerPrompt]))
        }
    }
}
