internal import Dispatch
internal import Platform
internal import Raster
internal import Synchronization

extension EmojiDataset {
    /// Writes all files of the data set into an empty folder, the manifest last.
    static func write(
        _ source: Source, options: Options, to folder: String, _ progress: @Sendable (_ done: Int, _ total: Int) -> Void
    ) throws -> EmojiManifest {
        let emoji = source.drawn
        var files = try writeImages(of: emoji, source.pictures, options: options, to: folder, progress)
        let split = EmojiLists.split(source.emoji, drawn: Set(emoji.map(\.caption)))
        let lists = [
            "captions.json": EmojiLists.captions(emoji),
            "prompt2img.json": EmojiLists.references(emoji, count: options.referenceCount),
            "train.txt": split.train,
            "validation.txt": split.validation,
            "test.txt": split.test,
        ]
        for (name, text) in lists {
            try FileAccess.write(Array(text.utf8), to: "\(folder)/\(name)")
            files[name] = text.utf8.count
        }
        let manifest = EmojiManifest(source: source.identity(options), emojiCount: emoji.count, files: files)
        try FileAccess.replace("\(folder)/\(EmojiManifest.fileName)", with: try manifest.encoded())
        return manifest
    }

    /// Renders on all processors: an emoji's files depend on nothing but the emoji, so the order does not matter.
    private static func writeImages(
        of emoji: [Emoji], _ pictures: any EmojiPictures, options: Options, to folder: String,
        _ progress: @Sendable (_ done: Int, _ total: Int) -> Void
    ) throws -> [String: Int] {
        try FolderReplacement.makeFolder("\(folder)/images")
        let work = Mutex(Work())
        DispatchQueue.concurrentPerform(iterations: emoji.count) { index in
            guard work.withLock({ $0.failure == nil }) else { return }
            do throws(DatasetError) {
                let written = try writeImages(of: emoji[index], pictures, options: options, to: folder)
                work.withLock {
                    $0.files.merge(written) { _, new in new }
                    $0.doneCount += 1
                    progress($0.doneCount, emoji.count)
                }
            } catch {
                work.withLock { if $0.failure == nil { $0.failure = error } }
            }
        }
        return try work.withLock {
            if let failure = $0.failure { throw failure }
            return $0.files
        }
    }

    private struct Work: Sendable {
        var files: [String: Int] = [:]
        var doneCount = 0
        var failure: DatasetError?
    }

    /// The files of one emoji with their lengths.
    private static func writeImages(
        of emoji: Emoji, _ pictures: any EmojiPictures, options: Options, to folder: String
    ) throws(DatasetError) -> [String: Int] {
        let rendering = EmojiRendering(
            try pictures.picture(of: emoji.scalar), scalar: emoji.scalar, size: options.size)
        var images = [(emoji.plainFile, rendering.plain())]
        for index in 0..<options.referenceCount {
            images.append((emoji.referenceFile(index), rendering.reference(index)))
        }
        var files: [String: Int] = [:]
        for (name, image) in images {
            let bytes: [UInt8]
            do throws(RasterError) {
                bytes = try image.pngBytes()
            } catch {
                throw DatasetError(error, code: .unwritable)
            }
            try FileAccess.write(bytes, to: "\(folder)/images/\(name)")
            files["images/\(name)"] = bytes.count
        }
        return files
    }
}
