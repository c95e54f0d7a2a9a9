package import Platform
internal import Raster

/// Why a data set cannot be used or made.
public struct DatasetError: Error, Sendable, CustomStringConvertible {
    /// The kind of failure; a later version may have more.
    public enum Code: Sendable {
        /// A file cannot be opened or read.
        case unreadable
        /// A prompt list or prompt2img.json is not in its format.
        case malformedList
        /// A prompt occurs twice.
        case duplicatePrompt
        /// Prompts without references, or reference images that are missing or damaged.
        case invalidReferences
        /// A prompt that the reference library does not have was asked for.
        case unknownPrompt
        /// The emoji font or the pictures of another style are not installed.
        case missingPictures
        /// A picture of a style is damaged.
        case malformedPicture
        /// The font's tables are damaged or not of the kinds read here.
        case malformedFont
        /// A size or count outside its range.
        case invalidOptions
        /// The output folder holds something that `prepare` did not make.
        case foreignFolder
        /// The output cannot be written.
        case unwritable
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
