public import AdvGRPO
import Raster
public import TensorCore

extension Evaluator {
    /// The references of the first prompts, by which backbones are told apart.
    public var pictures_BHWC: Tensor { RGBImage.tensor(of: references.prefix(4).flatMap { $0 }, on: engine) }

    /// Prompts that a judge has no caption for, which it is not asked about.
    ///
    /// - Throws: `ModelError` where it knows none of the prompts.
    public func unknown(to judge: CaptionJudge) throws -> [String] { try judge.unknown(of: prompts) }

    /// What a judge says of images that `images` made, prompt by prompt, those that it knows.
    ///
    /// - Throws: `NumericalFailure`.
    public func judged(_ images_BHWC: Tensor, by judge: CaptionJudge, lanes: Lanes) throws -> [JudgedPrompt] {
        let known = prompts.indices.filter { judge.knows(prompts[$0]) }
        let own = ownRows(images_BHWC)
        return try judge.judged(
            images: known.map { own[$0] }, references: known.map { RGBImage.tensor(of: references[$0], on: engine) },
            prompts: known.map { prompts[$0] }, lanes: lanes)
    }
}
