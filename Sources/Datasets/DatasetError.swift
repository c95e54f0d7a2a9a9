package import Platform
internal import Raster

/// Why a data set cannot be used or made.
public struct DatasetError: Error, Sendable, CustomStringConvertible {
    /// The kind of failure; new ones may be added.
    public struct Code: Sendable, Hashable {
        private enum Kind {
            case unreadable, malformedList, duplicatePrompt, invalidReferences, unknownPrompt
            case missingPictures, malformedPicture, malformedFont, invalidOptions, foreignFolder, unwritable
        }
        private let kind: Kind

        /// A file cannot be opened or read.
        public static let unreadable = Code(kind: .unreadable)
        /// A prompt list or prompt2img.json is not in its format.
        public static let malformedList = Code(kind: .malformedList)
        /// A prompt occurs twice.
        public static let duplicatePrompt = Code(kind: .duplicatePrompt)
        /// Prompts without references, or reference images that are missing or damaged.
        public static let invalidReferences = Code(kind: .invalidReferences)
        /// A prompt that the reference library does not have was asked for.
        public static let unknownPrompt = Code(kind: .unknownPrompt)
        /// The emoji font or the pictures of another style are not installed.
        public static let missingPictures = Code(kind: .missingPictures)
        /// A picture of a style is damaged.
        public static let malformedPicture = Code(kind: .malformedPicture)
        /// The font's tables are damaged or not of the kinds read here.
        public static let malformedFont = Code(kind: .malformedFont)
        /// A size or count outside its range.
        public static let invalidOptions = Code(kind: .invalidOptions)
        /// The output folder holds something that `prepare` did not make.
        public static let foreignFolder = Code(kind: .foreignFolder)
        /// The output cannot be written.
        public static let unwritable = Code(kind: .unwritable)
    }

    public var code: Code
    /// The file or folder concerned.
    public var path: String
    /// What was found, against what was expected.
    public var message: String
    /// What to do about it.
    public var remedy: String

    /// Makes an error about the file or folder `path`.
    public init(code: Code, path: String, message: String, remedy: String) {
        self.code = code
        self.path = path
        self.message = message
        self.remedy = remedy
    }

    public var description: String { "\(path): \(message); \(remedy)" }

    /// The same failure of a file that Raster read or wrote.
    init(_ error: RasterError, code: Code) {
        self.init(code: code, path: error.path ?? "image in memory", message: error.message, remedy: error.remedy)
    }
}

extension DatasetError: FileFailure {
    /// The same failure in this module's words.
    package init(_ error: FileError) {
        self.init(
            code: error.isWriting ? .unwritable : .unreadable, path: error.path, message: error.message,
            remedy: error.remedy)
    }
}

/// Whole files, with this module's errors.
typealias FileAccess = Files<DatasetError>
