internal import Dispatch
internal import Platform
public import Raster
internal import Synchronization

/// The reference images of each prompt: the paper's `prompt2img.json` or Hugging Face's `metadata.jsonl`, with its images.
///
/// A value that has been checked: every prompt has references and every reference is a complete PNG, JPEG or WebP file with a valid header.
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
    ///   - path: the file: `{prompt: [file, ...]}`, or lines with `file_name` and a prompt; files are relative to its folder or that folder's `images/`, or absolute.
    ///   - required: prompts that must have references, as a run's prompt list.
    ///   - remedy: what to do where some have none.
    ///   - dropsEmpty: whether a prompt with an empty list is as one that is not there, and no mistake.
    /// - Throws: one `DatasetError` that lists all problems, each with file and prompt (the first 20 in words).
    public init(
        path: String, required: [String] = [], remedy: String = "add them with their images", dropsEmpty: Bool = false
    ) throws(DatasetError) {
        let entries = try PromptReferences(path: path).entries.filter { !dropsEmpty || !$0.files.isEmpty }
        let folder = path.lastIndex(of: "/").map { String(path[...$0]) } ?? ""
        var problems: [Problem] = []
        var files: [String: [String]] = [:]
        var lines: [String: Int] = [:]
        for entry in entries {
            func report(_ message: String, _ remedy: String) {
                problems.append(Problem(message: "\"\(entry.prompt)\": \(message)", remedy: remedy))
            }
            if entry.files.isEmpty { report("no images are listed", "name one at least") }
            // The empty prompt is that of images without one, which rewards that read none score.
            if entry.prompt.utf8.contains(0) {
                report("line \(entry.line): a prompt holds a NUL character", "correct it or take it out")
            }
            var paths: [String] = []
            for file in entry.files {
                do throws(RasterError) {
                    paths.append(try Self.locate(file, folder: folder))
                } catch {
                    report("\(error.path.map { $0 + ": " } ?? "")\(error.message)", error.remedy)
                }
            }
            if let first = lines.updateValue(entry.line, forKey: entry.prompt) {
                report("in line \(first) and again in line \(entry.line)", "keep one of them")
            }
            files[entry.prompt] = paths
        }
        let missing = required.filter { files[$0] == nil }
        if !missing.isEmpty {
            problems.append(
                Problem(
                    message: "no references for \(missing.count) of \(required.count) prompts: "
                        + PromptText.list(missing), remedy: remedy))
        }
        if entries.isEmpty { problems.append(Problem(message: "no prompts", remedy: "name them with their images")) }
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
        let problems = Mutex<[Int: Problem]>([:])
        DispatchQueue.concurrentPerform(iterations: images.count) { index in
            let (prompt, path) = images[index]
            do throws(RasterError) {
                _ = try RGBImage(path: path)
            } catch {
                problems.withLock { $0[index] = Problem(prompt: prompt, path: path, error) }
            }
        }
        let found = problems.withLock { $0 }.sorted { $0.key < $1.key }.map(\.value)
        guard found.isEmpty else { throw Self.invalid(found, path: path) }
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
                images.append(try RGBImage(path: path).resized(width: width, height: height, filter: .bilinear))
            } catch {
                throw Self.invalid([Problem(prompt: prompt, path: path, error)], path: self.path)
            }
        }
        return images
    }

    /// The path of a listed image that has been checked: beside the list or in `images/`, with Windows' separators where only these fit.
    private static func locate(_ file: String, folder: String) throws(RasterError) -> String {
        guard !file.utf8.contains(0) else {
            throw RasterError(
                code: .unreadable, path: nil, message: "a NUL character in an image's name", remedy: "take it out")
        }
        let portable = String(file.map { $0 == "\\" ? "/" : $0 })
        let names = portable == file ? [file] : [file, portable]
        let places = names.flatMap { $0.hasPrefix("/") ? [$0] : [folder + $0, folder + "images/" + $0] }
        guard let place = places.first(where: FileAccess.exists) else {
            if file.contains("://") {
                throw RasterError(
                    code: .unreadable, path: file, message: "an address, not a file",
                    remedy: "download the image and name its file")
            }
            throw RasterError(
                code: .unreadable, path: places[0],
                message: "no such file" + (file.hasPrefix("/") ? "" : ", nor in \(folder)images/"),
                remedy: "correct the name or add the image")
        }
        try ImageFile.check(place)
        return place
    }

    /// One thing that is wrong with a library.
    private struct Problem {
        var message: String
        var remedy: String

        init(message: String, remedy: String) {
            self.message = message
            self.remedy = remedy
        }

        init(prompt: String, path: String, _ error: RasterError) {
            self.init(message: "\"\(prompt)\": \(path): \(error.message)", remedy: error.remedy)
        }
    }

    private static func invalid(_ problems: [Problem], path: String) -> DatasetError {
        if problems.count == 1 {
            return DatasetError(
                code: .invalidReferences, path: path, message: problems[0].message, remedy: problems[0].remedy)
        }
        var lines = problems.prefix(problemLimit).map { "\n  \($0.message); \($0.remedy)" }.joined()
        if problems.count > problemLimit { lines += "\n  and \(problems.count - problemLimit) more" }
        return DatasetError(
            code: .invalidReferences, path: path, message: "\(problems.count) problems", remedy: "mend each:\(lines)")
    }
}
