import AdvGRPO
import ComputeRoles
import Configuration
import Processes
import Protocol

/// What the reward server does for whom: what comes is compared with the run and the open epoch, before a queue or a model sees it.
struct RewardAdmission: Sendable {
    /// The epoch whose groups are scored.
    struct OpenEpoch: Sendable, Equatable {
        var number: Int
        /// The prompt of every group.
        var prompts: [String]
    }

    private let contract: RunContract
    private let order: PromptOrder
    private let prompts: [String]

    /// - Parameter prompts: of the run.
    /// - Throws: `unreadable` when there are fewer than an epoch has groups.
    init(_ settings: Settings, prompts: [String]) throws(RuntimeError) {
        contract = RunContract(settings.method)
        order = try PromptOrder(settings, promptCount: prompts.count)
        self.prompts = prompts
    }

    /// An epoch with the prompts that the run's order gives it.
    func epoch(_ number: Int) -> OpenEpoch {
        OpenEpoch(number: number, prompts: order.prompts(epoch: number).map { prompts[$0] })
    }

    /// A group to score is one of the open epoch, with its prompt and the run's images.
    ///
    /// - Throws: `notOfThisRun`, `notReady`, `closedEpoch`.
    func check(_ score: ScoreRequest, in epoch: OpenEpoch?) throws(Failure) {
        try contract.check(score)
        guard let epoch else { throw .noDiscriminator }
        guard score.group.epoch == epoch.number else {
            throw Failure(
                code: .closedEpoch, message: "group \(score.group) is to be scored, epoch \(epoch.number) is open",
                remedy: "ask the learner for a new lease")
        }
        let prompt = epoch.prompts[score.group.index]
        guard score.prompt == prompt else {
            throw Failure(
                code: .notOfThisRun,
                message:
                    "group \(score.group) has the prompt \"\(prompt.prefix(200))\", not \"\(score.prompt.prefix(200))\"",
                remedy: "start every role with the same data.prompts")
        }
    }

    /// The discriminator learns from the open epoch, or the one before when that is trained while the next is sampled.
    ///
    /// - Throws: `notOfThisRun`, `notReady`, `closedEpoch`.
    func check(_ order: DiscriminatorTraining, in epoch: OpenEpoch?) throws(Failure) {
        try contract.check(order)
        guard let epoch = epoch?.number else { throw .noDiscriminator }
        guard (epoch - 1...epoch).contains(order.epoch) else {
            throw Failure(
                code: .closedEpoch, message: "a training on epoch \(order.epoch) was ordered, epoch \(epoch) is open",
                remedy: "open the epoch and have it scored first")
        }
    }
}

extension Failure {
    /// Nothing is scored yet.
    static let noDiscriminator = Failure(
        code: .notReady, message: "the reward server has no discriminator yet, or no epoch is open",
        remedy: "wait for the learner to restore it")
}
