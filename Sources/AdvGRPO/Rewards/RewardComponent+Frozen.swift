/// `pickscore`, below.
public enum PickScoreReward: FrozenRewardName {}
/// `siglip`, below.
public enum SiglipReward: FrozenRewardName {}
/// `aesthetic`, below.
public enum AestheticReward: FrozenRewardName {}
/// `jpeg_compressibility`, below.
public enum JPEGCompressibilityReward: FrozenRewardName {}
/// `ocr`, below.
public enum OCRReward: FrozenRewardName {}
/// `image_similarity`, below.
public enum ImageSimilarityReward: FrozenRewardName {}

/// Rewards of models and formulas that no run trains. A new one is a row here and its loader, a file in `MethodModels/Rewards`.
///
/// - Source: Flow-GRPO `flow_grpo/rewards.py`, as Adv-GRPO's `adv_grpo/rewards.py` has it (method.md 1.6). Neither has
///   SigLIP's logit, which is taken as it is.
extension RewardComponent {
    /// Cosine to the nearest reference; no head.
    static let imageSimilarity = RewardComponent(
        "image_similarity", .classTokens(nearestSimilarity, alone: ImageSimilarityReward.self),
        reads: [.prompt, .references], model: .backbone, maps: .gradient,
        "the largest CLS cosine to the prompt's references; not adversarial")

    static let untrained = [
        imageSimilarity,
        RewardComponent(
            "pickscore", .frozen(PickScoreReward.self), reads: [.prompt],
            model: .folder("PickScore_v1 or another `CLIPModel` with its tokenizer", source: "method 3.6"),
            divisor: 26, maps: .places, "PickScore, frozen"),
        RewardComponent(
            "siglip", .frozen(SiglipReward.self), reads: [.prompt],
            model: .folder("a `SiglipModel` with its tokenizer", source: "method 1.6"),
            maps: .places, "SigLIP's logit of image and prompt, frozen"),
        RewardComponent(
            "aesthetic", .frozen(AestheticReward.self),
            model: .folder(
                "CLIP-L (a `CLIPModel`) with `sac+logos+ava1-l14-linearMSE.safetensors` in it", source: "method 1.6"),
            maps: .places, "the predicted rating, 1 to 10, frozen"),
        RewardComponent(
            "jpeg_compressibility", .frozen(JPEGCompressibilityReward.self), divisor: 500,
            "minus the kilobytes of the image as a JPEG file of quality 95"),
        RewardComponent(
            "ocr", .frozen(OCRReward.self), reads: [.prompt],
            "how much of the text between the prompt's double quotes Tesseract reads in the image, 0 to 1"),
    ]
}
