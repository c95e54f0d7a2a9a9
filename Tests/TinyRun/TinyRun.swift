public import Configuration
import Foundation
import Raster
import TestSupport

/// A run of seconds: its settings, prompts and pictures.
public enum TinyRun {
    /// Settings of a run of seconds: like deploy/settings/tiny.yaml, with a reward that needs no backbone. Paths of the data are
    /// relative to the folder that `writeData` filled.
    public static let settings = """
        seed: 7
        fidelity: fixed
        model: \(Repository.models)/emoji-sd3-tiny
        rewardBackbone: \(Repository.models)/emoji-sd3-tiny/dino
        data: {references: data/prompt2img.json, prompts: data/train.txt, evaluationPrompts: data/test.txt}
        rollout:
          resolution: 64
          steps: 3
          groupSize: 2
          groupsPerEpoch: 2
          window: {size: 1, start: 0}
        reward:
          weights: {dino_patch: 0, texture: 1}
        discriminator:
          hiddenWidth: 8
          stepsPerTraining: 2
          replayCapacity: 4
          warmUp: {minimumAUC: 0, maximumEpochs: 0}
        policy:
          lora: {rank: 4, alpha: 8}
          ema: {decay: 0.9, every: 1}
        run:
          epochs: 5
          snapshotEvery: 2
          previewEvery: 0
          previewPrompts: 0
          evaluation: {prompts: 0, seeds: 1, steps: 2}
        cluster:
          workers: 2
          leaseSeconds: 20

        """
    public static let trainingPrompts = ["a red circle", "a green square", "two blue dots", "a yellow star"]
    public static let evaluationPrompts = ["a grey moon", "a white cloud"]

    /// Six prompts with two pictures each: discs of the prompt's colour on a ground of noise.
    public static func writeData(to path: String) throws {
        try FileManager.default.createDirectory(atPath: path + "/data/images", withIntermediateDirectories: true)
        func write(_ prompts: [String], _ name: String) throws {
            try Data((prompts.joined(separator: "\n") + "\n").utf8).write(to: URL(fileURLWithPath: "\(path)/\(name)"))
        }
        var references: [String: [String]] = [:]
        for (index, prompt) in (trainingPrompts + evaluationPrompts).enumerated() {
            for copy in 0..<2 {
                var state = UInt64(index * 2 + copy + 1)
                let pixels = (0..<64 * 64).flatMap { position -> [UInt8] in
                    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                    let (x, y) = (position % 64 - 32, position / 64 - 32)
                    if x * x + y * y < 400 { return [UInt8(40 * index), UInt8(255 - 40 * index), UInt8(100 * copy)] }
                    return [UInt8(truncatingIfNeeded: state >> 40) | 128, 200, 220]
                }
                let name = "\(index)-\(copy).png"
                try RGBImage(width: 64, height: 64, pixels: pixels).writePNG(to: "\(path)/data/images/\(name)")
                references[prompt, default: []].append("images/\(name)")
            }
        }
        try JSONEncoder().encode(references).write(to: URL(fileURLWithPath: path + "/data/prompt2img.json"))
        try write(trainingPrompts, "data/train.txt")
        try write(evaluationPrompts, "data/test.txt")
    }

    /// Settings with the data in a folder, where it is written.
    public static func load(in folder: String, overrides: [String] = []) throws -> Settings {
        try writeData(to: folder)
        return try Settings.parse(
            settings, file: "settings.yaml",
            overrides: [
                "data.references=\(folder)/data/prompt2img.json", "data.prompts=\(folder)/data/train.txt",
                "data.evaluationPrompts=\(folder)/data/test.txt",
            ] + overrides)
    }
}
