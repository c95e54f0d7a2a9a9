internal import AdvGRPO
public import NeuralNetworks
public import Raster
public import TensorCore

/// What is done to an image before a vision tower sees it: `preprocessor_config.json` of transformers' `CLIPImageProcessor` and
/// `SiglipImageProcessor`.
///
/// - Source: transformers image_processing_backends.py `PilBackend`, models/clip and models/siglip image processors.
///   Differences: none; results equal the Pillow backend's, which published scores come from. torchvision's resizing, the default
///   of transformers 5, differs from it by single levels.
public struct ImageProcessor: Sendable, Equatable {
    /// How an image reaches the tower's square.
    public enum Fit: Sendable, Equatable {
        /// The shorter side is scaled to a length, then the middle is cut out.
        case centreCrop(shortestSide: Int)
        /// Both sides are scaled.
        case stretch
    }

    /// How an image reaches the square.
    public var fit: Fit
    /// Side of the square in pixels.
    public var side: Int
    /// Kernel of the resizing.
    public var filter = ResamplingFilter.bicubic
    /// Mean of each colour channel, subtracted from pixels in [0, 1].
    public var mean: [Float]
    /// Deviation of each colour channel, pixels are divided by it.
    public var deviation: [Float]

    /// `CLIPImageProcessor` as it is without a file.
    public static func clip(side: Int) -> ImageProcessor {
        ImageProcessor(
            fit: .centreCrop(shortestSide: side), side: side, mean: [0.48145466, 0.4578275, 0.40821073],
            deviation: [0.26862954, 0.26130258, 0.27577711])
    }

    /// `SiglipImageProcessor` as it is without a file.
    public static func siglip(side: Int) -> ImageProcessor {
        let half = [Float](repeating: 0.5, count: 3)
        return ImageProcessor(fit: .stretch, side: side, mean: half, deviation: half)
    }

    /// Reads `image_processor` of `processor_config.json`, which transformers 5 writes, or else `preprocessor_config.json`; what it
    /// leaves out, or a folder without either, is as in `standard`.
    ///
    /// - Parameters:
    ///   - folder: of the model.
    ///   - standard: the class's own values, for the side the tower takes.
    /// - Throws: `configuration` when the file makes images of another side or holds numbers no processor has; `unsupported` when it
    ///   leaves a step out.
    public init(folder: String, standard: ImageProcessor) throws(ModelError) {
        self = standard
        guard let (file, path) = try Self.file(folder: folder) else { return }
        func unsupported(_ what: String) -> ModelError {
            ModelError(code: .unsupported, source: path, message: "\(what) is not supported")
        }
        try ConfigurationFile.requireSupported(
            [
                "do_resize": (file.do_resize, [true]), "do_rescale": (file.do_rescale, [true]),
                "do_normalize": (file.do_normalize, [true]), "do_pad": (file.do_pad, [false]),
            ], path: path)
        if let factor = file.rescale_factor, !(abs(factor * 255 - 1) <= 1e-6) {
            throw unsupported("rescale_factor \(factor)")
        }
        if let number = file.resample {
            guard let filter = Self.filters[number] else { throw unsupported("resample \(number)") }
            self.filter = filter
        }
        mean = file.image_mean ?? mean
        deviation = file.image_std ?? deviation
        guard mean.count == 3, deviation.count == 3 else {
            throw ModelError(
                code: .configuration, source: path, message: "image_mean and image_std must hold three numbers each")
        }
        for (mean, deviation) in zip(mean, deviation) {
            try ConfigurationFile.requireNumbers(["image_mean": Double(mean)], in: -1e6...1e6, path: path)
            try ConfigurationFile.requireNumbers(
                ["image_std": Double(deviation)], in: ConfigurationFile.factors, path: path)
        }
        let crops = file.do_center_crop ?? (standard.fit != .stretch)
        if crops, let (width, height) = file.crop_size?.sides {
            try Self.require(width, height, side: side, path: path)
        }
        switch file.size {
        case .square(let width, let height):
            try Self.require(width, height, side: side, path: path)
            fit = .stretch
        case .shortest(let length):
            try ConfigurationFile.requireSizes(["size.shortest_edge": length], upTo: 8192, path: path)
            guard crops, length >= side else {
                throw unsupported("shortest_edge \(length) without a crop to \(side) x \(side)")
            }
            fit = .centreCrop(shortestSide: length)
        case nil:
            guard crops == (standard.fit != .stretch) else { throw unsupported("do_center_crop without size") }
        }
    }

    /// Images of any sizes as the tower takes them.
    ///
    /// - Returns: fp32 [B, 3, side, side], (pixel / 255 - mean) / deviation.
    /// - Precondition: at least one image.
    public func pixels(_ images: [RGBImage], on engine: any Engine) -> Tensor {
        precondition(!images.isEmpty, "image processor: no images")
        let plane = side * side
        var values = [Float](repeating: 0, count: images.count * 3 * plane)
        for (number, image) in images.enumerated() {
            let (resized, left, top) = resized(image)
            for y in 0..<side {
                for x in 0..<side {
                    let source = ((top + y) * resized.width + left + x) * 3
                    for channel in 0..<3 {
                        let value = Float(resized.pixels[source + channel]) / 255
                        values[(number * 3 + channel) * plane + y * side + x] =
                            (value - mean[channel]) / deviation[channel]
                    }
                }
            }
        }
        return engine.tensor(values, shape: [images.count, 3, side, side])
    }

    /// The maps of a score of what the tower sees; what its square leaves out adds nothing.
    ///
    /// - Parameters:
    ///   - images: at least one, all of one size.
    ///   - score: [B, 3, side, side] -> fp32 [B], differentiable.
    func maps(
        of images: [RGBImage], on engine: any Engine, attribution: Attribution,
        score: @escaping @Sendable (Tensor) -> Tensor
    ) -> RewardMaps {
        let seen = attribution.contributions(of: pixels(images, on: engine), reward: score).values
        let (whole, left, top) = resized(images[0])
        var contributions = [Float](repeating: 0, count: images.count * whole.width * whole.height)
        for (index, value) in seen.enumerated() {
            let (plane, place) = index.quotientAndRemainder(dividingBy: side * side)
            let (row, column) = (top + place / side, left + place % side)
            contributions[(plane / 3 * whole.height + row) * whole.width + column] += value
        }
        return RewardMaps(pixels: PatchGrid(rows: whole.height, columns: whole.width), contributions: contributions)
    }

    /// The image scaled, and where the square begins in it.
    private func resized(_ image: RGBImage) -> (image: RGBImage, left: Int, top: Int) {
        guard case .centreCrop(let shortest) = fit else {
            return (image.resized(width: side, height: side, filter: filter), 0, 0)
        }
        func scaled(_ length: Int) -> Int {
            Int(Double(shortest * length) / Double(min(image.width, image.height)))
        }
        let (width, height) = (scaled(image.width), scaled(image.height))
        return (
            image.resized(width: width, height: height, filter: filter), (width - side) / 2, (height - side) / 2
        )
    }

    private static func require(_ width: Int, _ height: Int, side: Int, path: String) throws(ModelError) {
        guard width == side, height == side else {
            throw ModelError(
                code: .configuration, source: path,
                message: "makes images of \(width) x \(height) pixels, the model takes \(side) x \(side)")
        }
    }

    /// Pillow's numbers of its filters.
    private static let filters: [Int: ResamplingFilter] = [1: .lanczos, 2: .bilinear, 3: .bicubic, 4: .box]

    private init(fit: Fit, side: Int, mean: [Float], deviation: [Float]) {
        self.fit = fit
        self.side = side
        self.mean = mean
        self.deviation = deviation
    }

    /// The file that transformers reads, and its name.
    private static func file(folder: String) throws(ModelError) -> (File, path: String)? {
        struct Processor: Decodable { var image_processor: File? }
        let (whole, own) = (folder + "/processor_config.json", folder + "/preprocessor_config.json")
        if ConfigurationFile.exists(whole),
            let file = try ConfigurationFile.read(Processor.self, path: whole).image_processor
        {
            return (file, whole)
        }
        return ConfigurationFile.exists(own) ? (try ConfigurationFile.read(File.self, path: own), own) : nil
    }

    private struct File: Decodable {
        var do_resize: Bool?, do_center_crop: Bool?, do_rescale: Bool?, do_normalize: Bool?, do_pad: Bool?
        var size: Size?, crop_size: Size?
        var resample: Int?
        var rescale_factor: Double?
        var image_mean: [Float]?, image_std: [Float]?
    }

    /// `224`, `{"shortest_edge": 224}` or `{"height": 224, "width": 224}`.
    private enum Size: Decodable {
        case shortest(Int)
        case square(width: Int, height: Int)

        var sides: (width: Int, height: Int) {
            switch self {
            case .shortest(let side): (side, side)
            case .square(let width, let height): (width, height)
            }
        }

        private enum CodingKeys: String, CodingKey { case shortest_edge, height, width }

        init(from decoder: any Decoder) throws {
            if let side = try? decoder.singleValueContainer().decode(Int.self) {
                self = .shortest(side)
                return
            }
            let sides = try decoder.container(keyedBy: CodingKeys.self)
            if let side = try sides.decodeIfPresent(Int.self, forKey: .shortest_edge) {
                self = .shortest(side)
            } else {
                self = .square(
                    width: try sides.decode(Int.self, forKey: .width),
                    height: try sides.decode(Int.self, forKey: .height))
            }
        }
    }
}
