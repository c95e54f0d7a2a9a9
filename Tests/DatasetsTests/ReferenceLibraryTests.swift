import Datasets
import Foundation
import Raster
import TestSupport
import Testing

@Suite("ReferenceLibrary")
struct ReferenceLibraryTests {
    private let red = RGBImage(width: 3, height: 2, color: RGBColor(red: 255, green: 0, blue: 0))
    private let blue = RGBImage(width: 4, height: 4, color: RGBColor(red: 0, green: 0, blue: 255))

    /// A folder with red.png beside the list and images/blue.png.
    private func withLibrary(_ json: String, _ body: (String) throws -> Void) throws {
        try withTemporaryFolder { folder in
            try FileManager.default.createDirectory(atPath: folder + "/images", withIntermediateDirectories: true)
            try red.writePNG(to: folder + "/red.png")
            try blue.writePNG(to: folder + "/images/blue.png")
            try write(json, to: folder + "/prompt2img.json")
            try body(folder)
        }
    }

    @Test("images beside the list and in images/ are found, scaled and returned in order")
    func loading() throws {
        try withLibrary(#"{"both": ["blue.png", "red.png"], "one": ["images/blue.png"]}"#) { folder in
            let library = try ReferenceLibrary(path: folder + "/prompt2img.json", required: ["one"])
            #expect(library.prompts == ["both", "one"])
            #expect(library.contains("one") && !library.contains("two"))
            #expect(library.paths(of: "both") == [folder + "/images/blue.png", folder + "/red.png"])
            let images = try library.references(of: "both", width: 4, height: 4)
            #expect(images == [blue, RGBImage(width: 4, height: 4, color: red[0, 0])])
        }
    }

    @Test("scaling is Pillow's bilinear")
    func scaling() throws {
        try withTemporaryFolder { folder in
            let raster = Fixtures.folder + "/../Raster"
            try write("{\"p\": [\"\(raster)/source.png\"]}", to: folder + "/list.json")
            let image = try ReferenceLibrary(path: folder + "/list.json").references(of: "p", width: 64, height: 64)[0]
            #expect(try image == RGBImage(path: raster + "/bilinear-64x64.png"))
        }
    }

    @Test("all problems come in one error, each with its file and prompt")
    func problems() throws {
        let json = """
            {"gone": ["red.png", "gone.png"], "none": [], "text": ["prompt2img.json"], "cut": ["cut.png"],
            "again": ["red.png"], "again": ["red.png"]}
            """
        try withLibrary(json) { folder in
            let bytes = try red.pngBytes()
            try Data(bytes.prefix(bytes.count - 20)).write(to: URL(filePath: folder + "/cut.png"))
            let error = try #require(throws: DatasetError.self) {
                try ReferenceLibrary(path: folder + "/prompt2img.json", required: ["red.png", "gone"])
            }
            #expect(error.code == .invalidReferences && error.path == folder + "/prompt2img.json")
            let lines = error.description.split(separator: "\n").map(String.init)
            #expect(lines.count == 7)
            #expect(lines[0].hasSuffix("6 problems; mend each:"))
            #expect(lines[1].hasPrefix("  \"gone\": \(folder)/gone.png: no such file, nor in \(folder)/images/; "))
            #expect(lines[2] == "  \"none\": no images are listed; name one at least")
            #expect(
                lines[3]
                    == "  \"text\": \(folder)/prompt2img.json: not a PNG, JPEG or WebP image; convert the image to PNG")
            #expect(lines[4].hasPrefix("  \"cut\": \(folder)/cut.png: not a readable PNG ("))
            #expect(lines[5] == "  \"again\": in line 2 and again in line 2; keep one of them")
            #expect(
                lines[6] == "  no references for 1 of 2 prompts: \"red.png\"; add them with their images")
        }
    }

    @Test("a long list of problems is cut short")
    func cap() throws {
        let json = "{" + (0..<30).map { "\"prompt \($0)\": []" }.joined(separator: ",") + "}"
        try withLibrary(json) { folder in
            let error = try #require(throws: DatasetError.self) {
                try ReferenceLibrary(path: folder + "/prompt2img.json")
            }
            #expect(error.description.split(separator: "\n").count == 22)
            #expect(error.message == "30 problems" && error.remedy.hasSuffix("and 10 more"))
        }
    }

    @Test("an unknown prompt and damage within the pixels are errors on loading")
    func loadingErrors() throws {
        try withLibrary(#"{"p": ["red.png"]}"#) { folder in
            var bytes = try red.pngBytes()
            let data = try #require(bytes.indices.first { Array(bytes[$0...].prefix(4)) == Array("IDAT".utf8) })
            bytes[data + 8] ^= 0xFF
            try Data(bytes).write(to: URL(filePath: folder + "/red.png"))
            let library = try ReferenceLibrary(path: folder + "/prompt2img.json")
            let checked = #expect(throws: DatasetError.self) { try library.checkImages() }
            #expect(checked?.message.hasPrefix("\"p\": \(folder)/red.png: not a readable PNG") == true)
            let damaged = #expect(throws: DatasetError.self) { try library.references(of: "p", width: 8, height: 8) }
            #expect(damaged?.code == .invalidReferences)
            #expect(damaged?.message.contains("\"p\": \(folder)/red.png: not a readable PNG") == true)
            let unknown = #expect(throws: DatasetError.self) { try library.references(of: "q", width: 8, height: 8) }
            #expect(unknown?.code == .unknownPrompt)
        }
    }

    @Test("a PNG followed by other bytes is accepted, as decoders do")
    func trailingBytes() throws {
        try withLibrary(#"{"p": ["long.png"]}"#) { folder in
            try Data(try red.pngBytes() + [1, 2, 3]).write(to: URL(filePath: folder + "/long.png"))
            let library = try ReferenceLibrary(path: folder + "/prompt2img.json")
            try library.checkImages()
            #expect(try library.references(of: "p", width: 3, height: 2) == [red])
        }
    }

    @Test("rows of a metadata.jsonl are a library too, grouped by prompt; keys lose their white space")
    func rows() throws {
        try withLibrary(#"{" p ": ["red.png"]}"#) { folder in
            #expect(try ReferenceLibrary(path: folder + "/prompt2img.json", required: ["p"]).prompts == ["p"])
            let rows = [("red.png", "a"), ("images\\\\blue.png", "b "), ("blue.png", "a")]
            let text = rows.map { "{\"file_name\": \"\($0.0)\", \"text\": \"\($0.1)\"}\n" }.joined()
            try write(text, to: folder + "/metadata.jsonl")
            let library = try ReferenceLibrary(path: folder + "/metadata.jsonl", required: ["a", "b"])
            #expect(library.paths(of: "a") == [folder + "/red.png", folder + "/images/blue.png"])
            #expect(library.paths(of: "b") == [folder + "/images/blue.png"])
        }
    }
}
