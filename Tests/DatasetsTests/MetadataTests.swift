import Datasets
import Foundation
import Raster
import TestSupport
import Testing

/// Hugging Face's image folders and images of other formats than PNG, as references.
@Suite("metadata.jsonl")
struct MetadataTests {
    private static let images = Fixtures.folder + "/../images"

    /// A folder with a picture `train/a.jpg` and one `b.png`, which is a WebP.
    private func withFolder<Result>(_ list: String, _ body: (String) throws -> Result) throws -> Result {
        try withTemporaryFolder { folder in
            let manager = FileManager.default
            try manager.createDirectory(atPath: folder + "/train", withIntermediateDirectories: true)
            try manager.copyItem(atPath: Self.images + "/full.jpg", toPath: folder + "/train/a.jpg")
            try manager.copyItem(atPath: Self.images + "/lossless.webp", toPath: folder + "/b.png")
            try write(list, to: folder + "/metadata.jsonl")
            return try body(folder + "/metadata.jsonl")
        }
    }

    @Test("a prompt's images in file order, whatever their format; the same file is its prompt list")
    func library() throws {
        let list = """
            \u{FEFF}{"file_name": "train/a.jpg", "text": "a fox "}\r
            {"file_name": "b.png", "text": "a cat", "size": [27, 19]}

            {"text": "a fox", "file_name": "b.png"}
            """
        try withFolder(list) { path in
            let library = try ReferenceLibrary(path: path, required: try PromptList(path: path).prompts)
            #expect(library.prompts == ["a fox", "a cat"])
            #expect(library.paths(of: "a fox").map { ($0 as NSString).lastPathComponent } == ["a.jpg", "b.png"])
            try library.checkImages()
            let expected = try ["full.jpg", "lossless.webp"].map { try RGBImage(path: Self.images + "/" + $0) }
            #expect(try library.references(of: "a fox", width: 27, height: 19) == expected)
        }
    }

    @Test("rows without an image or a prompt name line and fields")
    func rows() throws {
        let errors = try [#"{"text": "a"}"#, "\n{\"file_name\": \"b.png\", \"label\": 3}", #"{"text": 3}"#].map {
            list in
            try withFolder(list) { path in
                try #require(throws: DatasetError.self) { try ReferenceLibrary(path: path) }.message
            }
        }
        #expect(errors[0] == "line 1: no \"file_name\"")
        #expect(errors[1] == "line 2: no \"prompt\", \"text\" or \"caption\" among \"file_name\", \"label\"")
        #expect(errors[2] == "line 1: \"text\" is not one string")
    }

    @Test("prompts that differ in how an accent is composed are never taken for one another")
    func accents() throws {
        let (one, two) = ("caf\u{E9}", "cafe\u{301}")
        let row = { (prompt: String) in "{\"file_name\": \"b.png\", \"text\": \"\(prompt)\"}\n" }
        try withFolder(row(one) + row(two)) { path in
            for error in [
                #expect(throws: DatasetError.self) { try PromptList(path: path) },
                #expect(throws: DatasetError.self) { try ReferenceLibrary(path: path) },
            ] {
                #expect(error?.code == .duplicatePrompt)
                #expect(error?.message.contains("again in line 2, with accents composed") == true)
            }
        }
        let repeated = try withFolder(row(one) + row(one)) { try PromptList(path: $0).prompts }
        #expect(repeated == [one])
    }

    @Test("each problem of an image keeps its remedy")
    func remedies() throws {
        let list = "{\"file_name\": \"gif\", \"text\": \"a\"}\n{\"file_name\": \"wide.png\", \"text\": \"b\"}\n"
        try withFolder(list) { path in
            let folder = (path as NSString).deletingLastPathComponent
            try write("GIF89a", to: folder + "/gif")
            try RGBImage(width: 16_385, height: 1, color: .white).writePNG(to: folder + "/wide.png")
            let error = try #require(throws: DatasetError.self) { try ReferenceLibrary(path: path) }
            let lines = error.description.split(separator: "\n")
            #expect(lines[1].hasSuffix("gif: a GIF; convert the image to PNG"))
            #expect(lines[2].hasSuffix("; scale the image down") && lines[2].contains("16385 x 1 pixels"))
        }
    }
}
