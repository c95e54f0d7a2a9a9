internal import Raster

/// The data sets of the examples: captioned emoji in the reference-image format of the Adv-GRPO paper.
///
///     OUT/images/1f600.png            plain image
///     OUT/images/1f600_ref0.png ...   augmented references
///     OUT/captions.json               {file: caption} of the plain images
///     OUT/prompt2img.json             {caption: [file, ...]} of the references
///     OUT/train.txt                   captions that the base model was trained on
///     OUT/validation.txt              of these, every ninth: for the evaluation of a fine-tuning
///     OUT/test.txt                    every tenth caption: the base model never saw them
///     OUT/manifest.json               what it was made from
public enum EmojiDataset {
    /// What to make, from what, and where.
    public struct Options: Sendable {
        /// The font file: which emoji there are, what they are called, and Noto's pictures of them.
        public var font: String
        /// Who drew the pictures.
        public var style: EmojiStyle
        /// The style's pictures; nil for where its package puts them. Noto's are in `font`.
        public var pictures: String?
        /// The folder to make.
        public var output: String
        /// Side of the images, in pixels.
        public var size: Int
        /// Augmented references of each emoji.
        public var referenceCount: Int

        /// Defaults are the data set of the shipped base model.
        public init(
            font: String = EmojiFont.defaultPath, style: EmojiStyle = .noto, pictures: String? = nil, output: String,
            size: Int = 64, referenceCount: Int = 4
        ) {
            self.font = font
            self.style = style
            self.pictures = pictures
            self.output = output
            self.size = size
            self.referenceCount = referenceCount
        }
    }

    /// What the folder holds.
    public struct Summary: Sendable, Hashable {
        /// Emoji, each with a caption and a plain image.
        public var captionCount: Int
        /// Reference images of all emoji together.
        public var referenceCount: Int
        /// Captions that the style has no picture of, in order; they are in no list.
        public var leftOut: [String]
        /// Nothing was done because the folder was complete already.
        public var wasComplete: Bool
    }

    /// An emoji of the data set.
    struct Emoji: Sendable {
        var scalar: Unicode.Scalar
        var caption: String

        var plainFile: String { "\(name).png" }
        func referenceFile(_ index: Int) -> String { "\(name)_ref\(index).png" }

        private var name: String {
            let digits = String(scalar.value, radix: 16)
            return String(repeating: "0", count: max(0, 5 - digits.count)) + digits
        }
    }

    /// Makes the data set, or does nothing when `options.output` already holds it.
    ///
    /// The folder appears complete or not at all: another process may read it as soon as it exists, and a killed call is repaired by
    /// the next. A folder made from other pictures or with other options is replaced; one that this function did not make is refused.
    ///
    /// - Parameters:
    ///   - options: what to make.
    ///   - progress: called now and then with the emoji done and their total; from several threads, one at a time.
    /// - Throws: `DatasetError`, with the package to install when pictures are missing.
    public static func prepare(
        options: Options, progress: @Sendable (_ done: Int, _ total: Int) -> Void = { _, _ in }
    ) throws -> Summary {
        try validate(options)
        let source = try Source(options)
        let folder = try FolderReplacement(path: options.output)
        if let manifest = EmojiManifest(folder: folder.path) {
            if manifest.isComplete(in: folder.path, from: source.identity(options)) {
                return summary(source, options, wasComplete: true)
            }
        } else if !FolderReplacement.isMissingOrEmpty(folder.path) {
            throw DatasetError(
                code: .foreignFolder, path: folder.path,
                message: "exists, and has no \(EmojiManifest.fileName) that says it is an emoji data set",
                remedy: "remove it, or choose another folder")
        }
        try folder.begin()
        do {
            _ = try write(source, options: options, to: folder.partial, progress)
            try folder.commit()
            return summary(source, options, wasComplete: false)
        } catch {
            folder.abandon()
            throw error
        }
    }

    /// The emoji that there are, and pictures of them.
    struct Source: Sendable {
        let font: EmojiFont
        let pictures: any EmojiPictures
        /// The emoji of the font that have a picture there and a name, by code point.
        let emoji: [Emoji]
        /// Those that the style has a picture of.
        let drawn: [Emoji]

        init(_ options: Options) throws(DatasetError) {
            let font = try EmojiFont(path: options.font)
            pictures =
                options.style == .noto
                ? font : try options.style.open(options.pictures ?? options.style.defaultPictures)
            emoji = font.scalars.compactMap { scalar in
                EmojiCaption.caption(of: scalar).map { Emoji(scalar: scalar, caption: $0) }
            }
            let available = Set(pictures.scalars)
            drawn = emoji.filter { available.contains($0.scalar) }
            self.font = font
            guard !emoji.isEmpty else {
                throw DatasetError(
                    code: .malformedFont, path: font.path, message: "no emoji with a colour bitmap and a Unicode name",
                    remedy: "use NotoColorEmoji.ttf of fonts-noto-color-emoji")
            }
            guard !drawn.isEmpty else {
                throw DatasetError(
                    code: .missingPictures, path: pictures.path, message: "has a picture of none of the font's emoji",
                    remedy: "give the folder of \(options.style.package)")
            }
        }

        func identity(_ options: Options) -> EmojiManifest.Source {
            EmojiManifest.Source(
                style: options.style.rawValue, fontPrint: font.fingerprint, picturesPrint: pictures.fingerprint,
                size: options.size, referenceCount: options.referenceCount)
        }
    }

    private static func validate(_ options: Options) throws(DatasetError) {
        guard (8...1024).contains(options.size), (1...64).contains(options.referenceCount) else {
            throw DatasetError(
                code: .invalidOptions, path: options.output,
                message: "size \(options.size), \(options.referenceCount) references",
                remedy: "give a size of 8 to 1024 pixels and 1 to 64 references")
        }
        guard options.style != .noto || options.pictures == nil else {
            throw DatasetError(
                code: .invalidOptions, path: options.pictures ?? "",
                message: "pictures of their own, and Noto's style, whose pictures are in the font",
                remedy: "name another style, or give the font alone")
        }
    }

    private static func summary(_ source: Source, _ options: Options, wasComplete: Bool) -> Summary {
        let drawn = Set(source.drawn.map(\.caption))
        return Summary(
            captionCount: source.drawn.count, referenceCount: source.drawn.count * options.referenceCount,
            leftOut: source.emoji.map(\.caption).filter { !drawn.contains($0) }.sorted(), wasComplete: wasComplete)
    }
}
