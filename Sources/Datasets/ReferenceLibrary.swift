internal import Dispatch
internal import Platform
public import Raster
internal import Synchronization

/// The reference images of each prompt: the paper's `prompt2img.json` with its images.
///
/// A value that has been checked: every prompt has references and every reference is a complete PNG file with a valid header.
public struct ReferenceLibrary: Sendable {
    /// The file it was read from.
    public let path: String
    /// In file order.
    public let prompts: [String]
    /// Paths of the images of each prompt, in file order.
    private let files: [String: [String]]

    /// Most problems spelled out in one error.
    static let problemLimit = 20

    /// Reads and checks a library.
    ///
    /// - Parameters:
    ///   - path: the JSON file, `{prompt: [file, ...]}`; files are relative to its folder or that folder's `images/`, or absolute.
    ///   - required: prompts that must have references, as a run's prompt list.
    /// - Throws: one `DatasetError` that lists all problems, each with file and prompt (the first 20 in words).
    public init(path: String, required: [String] = []) throws(DatasetError) {
        let entries = try PromptReferences(json: try readList(path), path: path).entries
        let folder = path.lastIndex(of: "/").map { String(path[...$0]) } ?? ""
        var problems: [String] = []
        var files: [String: [String]] = [:]
        for entry in entries {
            if entry.files.isEmpty { problems.append("\"\(entry.prompt)\": no images are listed") }
            let paths = entry.files.map { file in
                let candidates = file.hasPrefix("/") ? [file] : [folder + file, folder + "images/" + file]
                let image = candidates.first { FileAccess.byteCount(of: $0) != nil } ?? candidates[0]
                do throws(RasterError) {
                    try PNGFile.check(image)
                } catch {
                    problems.append("\"\(entry.prompt)\": \(error.path ?? image): \(error.message)")
                }
                return image
            }
            if files.updateValue(paths, forKey: entry.prompt) != nil {
                problems.append("\"\(entry.prompt)\": listed again in line \(entry.line)")
            }
        }
        for prompt in required where files[prompt] == nil {
            problems.append("\"\(prompt)\": no references")
        }
        if entries.isEmpty { problems.append("no prompts") }
        guard problems.isEmpty else { throw Self.invalid(problems, path: path) }
        self.path = path
        self.prompts = entries.map(\.prompt)
        self.files = files
    }

    /// Decodes every image once, on all processors: what a truncated or damaged file keeps from being read is found before it is
    /// needed. A thousand pictures of 64 x 64 pixels take a tenth of a second or so. Blocks the calling thread.
    ///
    /// - Throws: one `DatasetError` that lists all damaged images, each with the first prompt it belongs to.
    public func checkImages() throws(DatasetError) {
        var seen: Set<String> = []
        let images = prompts.flatMap { prompt in
            paths(of: prompt).filter { seen.insert($0).inserted }.map { (prompt: prompt, path: $0) }
        }
        let problems = Mutex<[Int: String]>([:])
        DispatchQueue.concurrentPerform(iterations: images.count) { index in
            let (prompt, path) = images[index]
            do throws(RasterError) {
                _ = try RGBImage(pngPath: path)
            } catch {
                problems.withLock { $0[index] = "\"\(prompt)\": \(path): \(error.message)" }
            }
        }
        let found = problems.withLock { $0 }.sorted { $0.key < $1.key }.map(\.value)
        guard found.isEmpty else { throw Self.invalid(found, path: path, remedy: Self.damageRemedy) }
    }

    /// Whether the library has this prompt.
    public func contains(_ prompt: String) -> Bool { files[prompt] != nil }

    /// The image files of a prompt, in file order; empty for a prompt that the library does not have.
    public func paths(of prompt: String) -> [String] { files[prompt] ?? [] }

    /// The reference images of a prompt, in file order, scaled by Pillow's bilinear filter where they are not of this size.
    ///
    /// Transparent images are laid on white. Blocks on the disk; nothing is kept.
    ///
    /// - Throws: `DatasetError` for a prompt that is not in the library, or an image damaged since or beyond its header.
    public func references(of prompt: String, width: Int, height: Int) throws(DatasetError) -> [RGBImage] {
        guard let paths = files[prompt] else {
            throw DatasetError(
                code: .unknownPrompt, path: path, message: "no references for \"\(prompt)\"",
                remedy: "add the prompt with its images")
        }
        var images: [RGBImage] = []
        for path in paths {
            do throws(RasterError) {
                images.append(try RGBImage(pngPath: path).resized(width: width, height: height, filter: .bilinear))
            } catch {
                throw Self.invalid(
                    ["\"\(prompt)\": \(path): \(error.message)"], path: self.path, remedy: Self.damageRemedy)
            }
        }
        return images
    }

    private static let damageRemedy = "export the image again, or take it out of the file"

    private static func invalid(
        _ problems: [String], path: String,
        remedy: String = "correct the file, or add the images beside it or in images/"
    ) -> DatasetError {
        if problems.count == 1 {
            return DatasetError(code: .invalidReferences, path: path, message: problems[0], remedy: remedy)
        }
        var lines = problems.prefix(problemLimit).map { "\n  " + $0 }.joined()
        if problems.count > problemLimit { lines += "\n  and \(problems.count - problemLimit) more" }
        return DatasetError(
            code: .invalidReferences, path: path, message: "\(problems.count) problems:\(lines)\n", remedy: remedy)
    }
}
