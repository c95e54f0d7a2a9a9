import AdvGRPO
import Configuration
import Foundation
import ImageModels
import MethodModels
import NeuralNetworks
import Raster
import SafeTensors
import TensorCore

/// What one epoch of the bench consists of: the models' sizes and the numbers that the PyTorch peer has as well.
struct BenchWork {
    /// Folder with transformer, vae, scheduler and dino.
    let models: String
    let backbone: DINOv2Configuration
    /// Images of the group, and references beside them in the discriminator's step.
    let images: Int
    let textTokens: Int
    var steps = 10
    let guidance = 4.5
    let noiseLevel = 0.8
    /// Stochastic steps, at the start; these are trained.
    var window = 2
    var checkpointing = GradientCheckpointing.automatic
    let discriminatorSteps = 1
    let patches = 64
    let headWidth = 512
    let loraRank = 32
    static let prompt = "bench"

    /// Side of the images, and what the policy computes for one of them.
    let imageSide: Int
    let imageTokens: Int
    let policy: PolicyWork

    /// - Parameter size: side of the images, pixels; the model's default when nil.
    /// - Throws: `ModelError`, `SafeTensorsError` naming the file.
    init(models: String, group: Int?, textTokens: Int?, size: Int? = nil) throws {
        self.models = models
        // An engine that computes nothing reads no weights.
        let model = try PolicySource(path: models, engine: RehearsalEngine(trace: MemoryTrace())).model()
        imageSide = size ?? model.defaultSide
        let latentShape = try model.latentShape(height: imageSide, width: imageSide)
        imageTokens = model.tokenCount(latentShape: latentShape)
        backbone = try DINOv2(folder: models + "/dino", engine: EngineKind.default.engine()).configuration
        let sizes = try ConfigurationFile.read(Sizes.self, path: models + "/dino/config.json")
        images = group ?? sizes.group ?? 16
        self.textTokens = textTokens ?? sizes.text_tokens ?? 16
        policy = model.work(latentShape: latentShape, textTokens: self.textTokens, rank: loraRank)
    }

    /// What make_models.py adds to a backbone's configuration.
    private struct Sizes: Decodable {
        var group: Int?, text_tokens: Int?
    }

    /// The settings of a run that does this work in every epoch.
    func settings(_ manner: BenchReport.Manner, references: BenchReferences) throws -> Settings {
        var settings = Settings(fidelity: .fixed)
        settings.model = models
        settings.rewardBackbone = models + "/dino"
        settings.precision = manner.precision
        settings.data.references = references.list
        settings.data.prompts = references.prompts
        settings.data.evaluationPrompts = references.heldOutPrompts
        settings.cluster.rewardServerThreads = manner.lanes.count
        settings.method.rollout.resolution = imageSide
        settings.method.rollout.steps = steps
        settings.method.rollout.guidance = guidance
        settings.method.rollout.noiseLevel = noiseLevel
        settings.method.rollout.window = WindowSettings(size: window, start: .fixed(0))
        settings.method.rollout.groupSize = images
        settings.method.rollout.groupsPerEpoch = 1
        settings.method.rollout.chunkSize = manner.chunk
        settings.method.reward.patchCount = patches
        settings.method.reward.references = .raw
        settings.method.reward.featureNormalization = .trainRawScoreUnit
        settings.method.discriminator.hiddenWidth = headWidth
        settings.method.discriminator.stepsPerTraining = discriminatorSteps
        settings.method.discriminator.replayCapacity = 0
        settings.method.discriminator.warmUp = WarmUpSettings()
        settings.method.policy.lora.rank = loraRank
        settings.method.policy.updatesPerEpoch = 1
        settings.method.policy.gradientCheckpointing = checkpointing
        if let violation = settings.validate().first {
            throw CommandFailure("\(models) cannot be measured: \(violation.path) \(violation.message)")
        }
        return settings
    }
}

extension BenchWork {
    /// Operations of a phase; those of the models are in `OperationCounts`.
    func operations(_ phase: BenchPhase) -> Int {
        // The head reads the class token and the drawn patches.
        func layer(_ input: Int, _ output: Int) -> Int {
            var counts = OperationCounts()
            counts.linear(1 + patches, input, output)
            return counts.forward
        }
        let (hidden, last) = (layer(backbone.width, headWidth), layer(headWidth, 1))
        switch phase {
        case .sample: return steps * 2 * images * policy.velocity.forward
        case .decode: return images * policy.decoding
        case .score: return images * (backbone.operations + hidden + last)
        // Both classes; features are there already. Two weight gradients, and one input gradient between the two layers.
        case .discriminator: return discriminatorSteps * 2 * images * (2 * hidden + 3 * last)
        case .policy: return window * 2 * images * (policy.velocity.forward + policy.velocity.training)
        }
    }
}

/// References of the bench's one prompt: pictures of noise in a temporary folder.
struct BenchReferences {
    /// `prompt2img.json`, the list of the prompt, and a list that does not hold it.
    let list: String, prompts: String, heldOutPrompts: String
    private let folder: String

    /// - Throws: `RasterError` or Foundation's error when the temporary folder cannot be written.
    init(count: Int, side: Int) throws {
        folder = FileManager.default.temporaryDirectory.path + "/advgrpo-bench-\(UUID().uuidString)"
        list = folder + "/prompt2img.json"
        prompts = folder + "/prompts.txt"
        heldOutPrompts = folder + "/held-out.txt"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        let names = (0..<count).map { "\($0).png" }
        for (index, name) in names.enumerated() {
            let noise = Philox(seed: 0, purpose: .evaluation, index)
            let pixels = (0..<side * side * 3).map { UInt8(truncatingIfNeeded: noise.word($0)) }
            try RGBImage(width: side, height: side, pixels: pixels).writePNG(to: "\(folder)/\(name)")
        }
        try JSONEncoder().encode([BenchWork.prompt: names]).write(to: URL(fileURLWithPath: list))
        try Data((BenchWork.prompt + "\n").utf8).write(to: URL(fileURLWithPath: prompts))
        try Data("something else\n".utf8).write(to: URL(fileURLWithPath: heldOutPrompts))
    }

    /// Removes the folder.
    func remove() { try? FileManager.default.removeItem(atPath: folder) }
}
