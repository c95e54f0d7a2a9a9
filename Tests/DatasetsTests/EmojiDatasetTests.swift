import Datasets
import Foundation
import Raster
import Synchronization
import TestSupport
import Testing

@Suite("EmojiDataset")
struct EmojiDatasetTests {
    private func options(_ output: String, size: Int = 64, referenceCount: Int = 4) -> EmojiDataset.Options {
        .init(font: Fixtures.folder + "/six.ttf", output: output, size: size, referenceCount: referenceCount)
    }

    private func names(_ folder: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
    }

    @Test("lists and plain images equal the reference script's")
    func script() throws {
        try withTemporaryFolder { folder in
            let output = folder + "/new/emoji/"
            let summary = try EmojiDataset.prepare(options: options(output))
            #expect(summary.captionCount == 6 && summary.referenceCount == 24 && !summary.wasComplete)
            #expect(
                try names(output) == [
                    "captions.json", "images", "manifest.json", "prompt2img.json", "test.txt", "train.txt",
                    "validation.txt",
                ])
            for list in ["captions.json", "prompt2img.json", "train.txt", "test.txt"] {
                #expect(try read(output + list) == Fixtures.text("six/" + list), "\(list)")
            }
            // Five training captions in order; the fifth is the first of every nine to be kept out.
            let train = try PromptList(path: output + "train.txt").prompts
            #expect(try read(output + "validation.txt") == train[4] + "\n")
            for image in try names(Fixtures.folder + "/six/images") {
                let expected = try RGBImage(path: Fixtures.folder + "/six/images/" + image)
                let isEqual = try RGBImage(path: output + "images/" + image) == expected
                #expect(isEqual, "\(image)")
            }
            let library = try ReferenceLibrary(
                path: output + "prompt2img.json", required: PromptList(path: output + "train.txt").prompts)
            #expect(library.prompts.count == 6)
            #expect(try library.references(of: "troll", width: 64, height: 64).count == 4)
            #expect(try names(folder + "/new") == ["emoji"])
        }
    }

    @Test("another style has the same captions in the same lists, less those it has no picture of")
    func style() throws {
        try withTemporaryFolder { folder in
            var options = options(folder + "/styled")
            (options.style, options.pictures) = (.emojione, Fixtures.folder + "/pictures")
            let summary = try EmojiDataset.prepare(options: options)
            #expect(summary.leftOut == ["double exclamation mark", "snake", "troll"])
            #expect(summary.captionCount == 3 && summary.referenceCount == 12)
            #expect(try read(folder + "/styled/train.txt") == "grinning face\nheavy black heart\nrocket\n")
            // What they hold is not in the style.
            #expect(try read(folder + "/styled/validation.txt") == "" && read(folder + "/styled/test.txt") == "")
            for image in ["1f600.png", "1f680.png", "02764.png"] {
                let expected = try RGBImage(path: Fixtures.folder + "/styled/" + image)
                let isEqual = try RGBImage(path: folder + "/styled/images/" + image) == expected
                #expect(isEqual, "\(image) is what Pillow makes of the picture")
            }
            #expect(try EmojiDataset.prepare(options: options).wasComplete)
            // The same folder for another style is made anew.
            (options.style, options.pictures) = (.noto, nil)
            #expect(try EmojiDataset.prepare(options: options).captionCount == 6)
        }
    }

    @Test("a complete folder is left alone; a changed, damaged or differently made one is replaced")
    func repetition() throws {
        try withTemporaryFolder { folder in
            let output = folder + "/emoji"
            let first = try EmojiDataset.prepare(options: options(output))
            let made = try FileManager.default.attributesOfItem(atPath: output)[.systemFileNumber] as? Int
            #expect(try EmojiDataset.prepare(options: options(output)).wasComplete)
            let kept = try FileManager.default.attributesOfItem(atPath: output)[.systemFileNumber] as? Int
            #expect(made == kept)

            let image = output + "/images/1f600_ref2.png"
            let bytes = try Data(contentsOf: URL(filePath: image))
            try bytes.dropLast().write(to: URL(filePath: image))
            #expect(try EmojiDataset.prepare(options: options(output)) == first)
            #expect(try Data(contentsOf: URL(filePath: image)) == bytes)
            try FileManager.default.removeItem(atPath: output + "/train.txt")
            #expect(try EmojiDataset.prepare(options: options(output)) == first)

            #expect(try !EmojiDataset.prepare(options: options(output, size: 48)).wasComplete)
            #expect(try RGBImage(path: image).width == 48)
            #expect(try EmojiDataset.prepare(options: options(output, size: 48, referenceCount: 1)).referenceCount == 6)
            #expect(try names(output + "/images").count == 12)
        }
    }

    @Test("what a killed call leaves is cleared; a folder of something else is refused untouched")
    func interruptions() throws {
        try withTemporaryFolder { folder in
            let output = folder + "/emoji"
            let partial = folder + "/.emoji.partial/images"
            try FileManager.default.createDirectory(atPath: partial, withIntermediateDirectories: true)
            try write("half", to: partial + "/old.png")
            try FileManager.default.createDirectory(atPath: output, withIntermediateDirectories: true)
            #expect(try !EmojiDataset.prepare(options: options(output)).wasComplete)
            #expect(try names(folder) == ["emoji"])
            #expect(try names(output + "/images").count == 30)

            let foreign = folder + "/thesis"
            try FileManager.default.createDirectory(atPath: foreign, withIntermediateDirectories: true)
            try write("text", to: foreign + "/chapter.txt")
            let error = #expect(throws: DatasetError.self) { try EmojiDataset.prepare(options: options(foreign)) }
            #expect(error?.code == .foreignFolder && error?.path == foreign)
            #expect(try names(foreign) == ["chapter.txt"])
        }
    }

    @Test("calls at the same time make the folder once", .timeLimit(.minutes(1)))
    func concurrency() async throws {
        let folder = NSTemporaryDirectory() + "/datasets-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let summaries = try await withThrowingTaskGroup(of: EmojiDataset.Summary.self) { group in
            for _ in 0..<4 {
                group.addTask { try EmojiDataset.prepare(options: options(folder + "/emoji")) }
            }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(summaries.count { !$0.wasComplete } == 1)
    }

    @Test("progress counts to the total")
    func progress() throws {
        try withTemporaryFolder { folder in
            let calls = Mutex<[[Int]]>([])
            _ = try EmojiDataset.prepare(options: options(folder + "/emoji")) { done, total in
                calls.withLock { $0.append([done, total]) }
            }
            #expect(calls.withLock { $0 } == (1...6).map { [$0, 6] })
        }
    }

    @Test("errors: no font, no emoji in the font, options out of range, a folder that cannot be made")
    func errors() throws {
        try withTemporaryFolder { folder in
            func code(_ options: EmojiDataset.Options) -> DatasetError.Code? {
                let error = #expect(throws: DatasetError.self) { try EmojiDataset.prepare(options: options) }
                return error?.code
            }
            #expect(code(.init(font: "/nowhere.ttf", output: folder + "/a")) == .missingPictures)
            var styled = options(folder + "/a")
            styled.pictures = "/nowhere"
            #expect(code(styled) == .invalidOptions)
            styled.style = .emojione
            #expect(code(styled) == .missingPictures)
            try write("no picture", to: folder + "/1F600.png")
            styled.pictures = folder
            #expect(code(styled) == .malformedPicture)
            try FileManager.default.moveItem(atPath: folder + "/1F600.png", toPath: folder + "/1F6000.png")
            #expect(code(styled) == .missingPictures)
            try FileManager.default.removeItem(atPath: folder + "/1F6000.png")
            #expect(code(options(folder + "/a", size: 0)) == .invalidOptions)
            #expect(code(options(folder + "/a", referenceCount: 0)) == .invalidOptions)
            #expect(code(options("/")) == .invalidOptions)
            #expect(code(options(folder + "/..")) == .invalidOptions)
            #expect(code(options("/dev/null/a")) == .unwritable)
            let plain = SyntheticFont(images: [(0x41, [0])]).bytes()
            try Data(plain).write(to: URL(filePath: folder + "/plain.ttf"))
            #expect(code(.init(font: folder + "/plain.ttf", output: folder + "/a")) == .malformedFont)
            let broken = SyntheticFont(images: [(0x2764, [0])]).bytes()
            try Data(broken).write(to: URL(filePath: folder + "/broken.ttf"))
            #expect(code(.init(font: folder + "/broken.ttf", output: folder + "/a")) == .malformedFont)
            #expect(try names(folder) == ["broken.ttf", "plain.ttf"])
        }
    }
}
