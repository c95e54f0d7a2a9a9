public import AdvGRPO
import NeuralNetworks
import SafeTensors
public import TensorCore

/// A classifier of captions that only evaluations read: a vision transformer of timm with its linear head on the class token.
///
/// A folder with `config.json` and `model.safetensors` as any backbone's, `head.weight` [captions, width] and `head.bias`
/// beside it, and `classes.json`, the list of captions in the rows' order. `tools/judge/train.py` writes one.
public struct CaptionJudge: Sendable {
    /// The folder.
    public let folder: String
    /// What it knows, in the order of its classifier's rows.
    public let captions: [String]
    private let numbers: [String: Int]
    private let backbone: VisionBackbone
    private let weight_CD: Tensor
    private let bias_C: Tensor

    /// A backbone that a judge must not be.
    public struct Seen: Sendable, Hashable {
        /// Its folder.
        public var folder: String
        /// Whose it is, as `the reward's backbone`.
        public var role: String

        public init(folder: String, role: String) {
            self.folder = folder
            self.role = role
        }
    }

    /// Loads a judge.
    ///
    /// A backbone is the same network where it sees the same in pictures, whatever its files are called, in whatever precision
    /// they are and whatever head lies beside it.
    ///
    /// - Parameters:
    ///   - folder: of the judge.
    ///   - seen: backbones that training or the other figures read.
    ///   - pictures_BHWC: what backbones are told apart by, in [0, 1]; one at least.
    ///   - engine: what computes.
    ///   - chunks: images computed at once.
    /// - Throws: `ModelError`, `SafeTensorsError` naming the file; `ModelError` for a judge that is one of the backbones seen.
    public init(folder: String, unlike seen: [Seen], pictures_BHWC: Tensor, engine: any Engine, chunks: Chunks) throws {
        func load(_ folder: String) throws -> VisionBackbone {
            try VisionBackbone(folder: folder, engine: engine, dtype: .float32, resize: .tensor, chunks: chunks)
        }
        backbone = try load(folder)
        let mine = backbone.classTokens(pictures_BHWC)
        for other in seen {
            guard Self.areSame(mine, try load(other.folder).classTokens(pictures_BHWC)) else { continue }
            throw ModelError(
                code: .unsupported, source: folder,
                message: "is \(other.role) (\(other.folder)) and no unseen judge; name a model that nothing else reads")
        }
        let list = folder + "/classes.json"
        guard ConfigurationFile.exists(list) else {
            throw ModelError(
                code: .missing, source: folder,
                message:
                    "has no classes.json with the captions of a classifier; name a judge as tools/judge/train.py makes one"
            )
        }
        let captions = try ConfigurationFile.read([String].self, path: list)
        let numbers = Dictionary(zip(captions, 0...)) { first, _ in first }
        guard numbers.count == captions.count, captions.count > 1 else {
            let twice = captions.indices.first { numbers[captions[$0]] != $0 }.map { captions[$0] }
            throw ModelError(
                code: .configuration, source: list,
                message: twice.map { "\"\(ConfigurationFile.abbreviated($0))\" is there twice; a caption is one class" }
                    ?? "has \(captions.count) captions; a classifier has two at least")
        }
        (self.captions, self.numbers) = (captions, numbers)
        (weight_CD, bias_C) = try Self.head(
            of: folder, captionCount: captions.count, width: backbone.shape.width, engine: engine)
        self.folder = folder
    }

    /// The classifier's tensors.
    private static func head(
        of folder: String, captionCount: Int, width: Int, engine: any Engine
    ) throws -> (weight_CD: Tensor, bias_C: Tensor) {
        let file = try SafeTensorsFolder(path: folder)
        func tensor(_ name: String, _ shape: [Int]) throws -> Tensor {
            guard file[name]?.shape == shape else {
                throw ModelError(
                    code: file[name] == nil ? .missing : .wrongShape, source: folder,
                    message:
                        "\(name) \(file[name].map { "has shape \($0.shape)" } ?? "is not there"), expected \(shape): "
                        + "a row for each of the \(captionCount) captions of classes.json")
            }
            return engine.tensor(try file.floats(of: name), shape: shape)
        }
        return (try tensor("head.weight", [captionCount, width]), try tensor("head.bias", [captionCount]))
    }

    /// Whether features are those of one network, up to the rounding of its weights to 16 bits.
    private static func areSame(_ first_BD: Tensor, _ second_BD: Tensor) -> Bool {
        guard first_BD.shape == second_BD.shape else { return false }
        func length(_ x: Tensor) -> Double { Double(x.engine.sumOfSquares(x)).squareRoot() }
        return length(first_BD - second_BD) <= 0.05 * length(first_BD)
    }

    /// Whether a prompt is one of the captions.
    public func knows(_ prompt: String) -> Bool { numbers[prompt] != nil }

    /// Prompts that it has no caption for, which it is not asked about.
    ///
    /// - Throws: `ModelError` where it knows none of the prompts.
    public func unknown(of prompts: [String]) throws -> [String] {
        let unknown = prompts.filter { !knows($0) }
        guard unknown.count < prompts.count else {
            throw ModelError(
                code: .unsupported, source: folder + "/classes.json",
                message: "none of the \(prompts.count) prompts is among its \(captions.count) captions, "
                    + "\"\(ConfigurationFile.abbreviated(prompts.first ?? ""))\" for example; name a judge that was trained on them"
            )
        }
        return unknown
    }

    /// Judges the images of prompts.
    ///
    /// - Parameters:
    ///   - images: [B, H, W, 3] in [0, 1] of each prompt.
    ///   - references: [R, H, W, 3] of each.
    ///   - prompts: captions that the judge knows.
    ///   - lanes: threads.
    /// - Throws: `NumericalFailure` where its features or logits are not finite.
    public func judged(images: [Tensor], references: [Tensor], prompts: [String], lanes: Lanes) throws -> [JudgedPrompt]
    {
        let function = backbone.function(lanes: lanes)
        func features(_ images: [Tensor]) throws -> [Tensor] {
            let all = function(concatenated(images, axis: 0), [], .score).classToken_BD
            try NumericalFailure.check(all, "features of the judge \(folder); check its weights")
            var start = 0
            return images.map {
                start += $0.shape[0]
                return all.rows(start - $0.shape[0]..<start)
            }
        }
        return try zip(prompts, zip(try features(images), try features(references))).map { prompt, features in
            guard let caption = numbers[prompt] else { preconditionFailure("a caption that the judge does not know") }
            let logits = linear(features.0, weight: weight_CD, bias: bias_C)
            try NumericalFailure.check(logits, "logits of the judge \(folder); check its weights")
            return JudgedPrompt(
                logits_BC: logits, caption: caption, features_BD: features.0, references_RD: features.1)
        }
    }
}

extension VisionBackbone {
    /// Class tokens of images, [B, D].
    fileprivate func classTokens(_ images_BHWC: Tensor) -> Tensor {
        function(lanes: Lanes(count: 1))(images_BHWC, [], .score).classToken_BD
    }
}
