import AdvGRPO
import ComputeRoles
import Configuration
import Datasets
import Foundation
import MethodModels
import NeuralNetworks
import Protocol
import Raster
import TensorCore

/// What an alarm is about, as a picture: the epoch's images that the reward likes best, those it likes least, and the preview
/// prompts that following the reward has changed most, each before and now.
struct AlarmSheet {
    let settings: Settings
    let policy: DiffusionPolicy
    let rollout: Rollout
    let lanes: Lanes

    /// Images a row; a pair before and now takes two.
    private static let columns = 8

    /// Path of an alarm's sheet below the run directory; the number counts epochs, as in the names of previews.
    static func name(ofEpoch epoch: Int) -> String { String(format: "images/alarm-%06d.png", epoch + 1) }

    /// The sheet: a row of the best, a row of the worst, and pairs.
    ///
    /// - Parameters:
    ///   - results: the epoch's groups.
    ///   - sampler: the weights that sampled them.
    ///   - before: the weights before the policy followed any reward.
    ///   - now: the weights of today.
    func image(
        of results: [GroupResult], sampledWith sampler: Parameters, before: Parameters, now: Parameters
    ) throws -> RGBImage {
        let (best, worst) = extremes(results)
        let velocity = try policy.velocity(sampler)
        var rows = try [best, worst].map { members in
            ContactSheet(
                images: try members.map { try image(of: $0, in: results, velocity) }, columns: Self.columns, scale: 2
            ).image
        }
        let pairs = try mostChanged(from: before, to: now)
        if !pairs.isEmpty {
            rows.append(
                ContactSheet(
                    before: pairs.map(\.before), after: pairs.map(\.now), pairs: Self.columns / 2, scale: 2
                ).image)
        }
        return ContactSheet(images: rows, columns: 1, gutter: 8).image
    }

    // MARK: Of the epoch

    /// A member of one of the epoch's groups.
    private struct Member {
        var group: Int
        var member: Int
        var reward: Float
    }

    /// The members of the highest rewards, best first, and of the lowest, worst first; half of the epoch each, a row at most.
    private func extremes(_ results: [GroupResult]) -> (best: [Member], worst: [Member]) {
        let members = results.enumerated().flatMap { group, result in
            result.rewards.floats.enumerated().map { Member(group: group, member: $0, reward: $1) }
        }
        let sorted = members.enumerated().sorted {
            ($1.element.reward, $0.offset) < ($0.element.reward, $1.offset)
        }.map(\.element)
        let count = min(Self.columns, max(1, sorted.count / 2))
        return (Array(sorted.prefix(count)), sorted.suffix(count).reversed())
    }

    /// The image that was scored: the steps after the window are deterministic and made again.
    private func image(
        of member: Member, in results: [GroupResult], _ velocity: @escaping VelocityFunction
    ) throws -> RGBImage {
        let result = results[member.group]
        let shape = result.latents.shape
        let window = try result.latents.tensor(on: policy.engine).rows(member.member..<member.member + 1)
        let last = window.sliced(axis: 1, shape[1] - 1..<shape[1]).reshaped([1] + shape.dropFirst(2))
        let clean = rollout.finished(
            result.group, from: last, prompt: try policy.conditioning(result.prompt), velocity: velocity)
        return RGBImage.images(of: policy.images(clean, lanes: lanes))[0]
    }

    // MARK: Since the beginning

    /// Images of the preview prompts that differ most between two policies, the most changed first.
    private func mostChanged(from before: Parameters, to now: Parameters) throws -> [(before: RGBImage, now: RGBImage)]
    {
        let prompts = try RunPrompts(settings).evaluation.prefix(settings.run.previewPrompts)
        guard !prompts.isEmpty else { return [] }
        let rollout = settings.method.rollout
        let generator = try ImageGenerator(
            policy: policy, steps: settings.run.evaluation.steps, guidance: rollout.guidance,
            height: rollout.resolution, width: rollout.resolution, seed: UInt64(settings.seed),
            chunks: Chunks(size: rollout.chunkSize))
        func images(_ parameters: Parameters) throws -> [RGBImage] {
            RGBImage.images(
                of: try generator.images(
                    ImageGenerator.Order.all(prompts: Array(prompts), count: 1),
                    velocity: policy.velocity(parameters), lanes: lanes))
        }
        let pairs = zip(try images(before), try images(now)).map { (before: $0, now: $1) }
        let sorted = pairs.enumerated().sorted {
            (Self.change($1.element), $0.offset) < (Self.change($0.element), $1.offset)
        }
        return sorted.prefix(Self.columns / 2).map(\.element)
    }

    /// Sum of the squared differences of two images' levels.
    private static func change(_ pair: (before: RGBImage, now: RGBImage)) -> Int {
        zip(pair.before.pixels, pair.now.pixels).reduce(0) { sum, levels in
            let difference = Int(levels.0) - Int(levels.1)
            return sum + difference * difference
        }
    }
}
