import Foundation
import MethodModels
import NeuralNetworks
import Raster
import TensorCore
import TestSupport
import Testing

/// Preparing images against transformers' image processors.
@Suite struct ImageProcessorTests {
    @Test(
        "pixels of images of any shape equal the Pillow backend's",
        arguments: [("clip-dual-a", ImageProcessor.clip(side: 24)), ("siglip-a", .siglip(side: 24))])
    func pixels(fixture: String, standard: ImageProcessor) throws {
        let golden = try Golden(fixture + "/images.safetensors")
        let engine = OpenBLASEngine.shared
        // With the file and without: it holds the class's own values.
        for processor in [
            standard, try ImageProcessor(folder: Repository.fixtures + "/" + fixture, standard: standard),
        ] {
            #expect(processor == standard)
            for number in 0..<4 {
                let pixels = processor.pixels([try golden.image("image.\(number)")], on: engine)
                try expectClose(pixels, golden, "pixels.\(number)", relative: 1e-6)
            }
        }
    }

    @Test("the processor that transformers 5 writes is read, and wins over the older file")
    func wholeProcessor() throws {
        try withTemporaryFolder { folder in
            func write(_ json: String, _ name: String) throws {
                try Data(json.utf8).write(to: URL(fileURLWithPath: folder + "/" + name))
            }
            try write(#"{"resample": 1}"#, "preprocessor_config.json")
            try write(
                #"{"image_processor": {"resample": 2, "size": {"shortest_edge": 30}}, "processor_class": "CLIPProcessor"}"#,
                "processor_config.json")
            let both = try ImageProcessor(folder: folder, standard: .clip(side: 24))
            #expect(both.filter == .bilinear && both.fit == .centreCrop(shortestSide: 30))
            try write(#"{"processor_class": "CLIPProcessor"}"#, "processor_config.json")
            #expect(try ImageProcessor(folder: folder, standard: .clip(side: 24)).filter == .lanczos)
        }
    }

    @Test("older forms of the file are read, and steps that are not done here are refused")
    func forms() throws {
        try withTemporaryFolder { folder in
            func read(_ json: String) throws -> ImageProcessor {
                try Data(json.utf8).write(to: URL(fileURLWithPath: folder + "/preprocessor_config.json"))
                return try ImageProcessor(folder: folder, standard: .clip(side: 24))
            }
            let (numbers, shortest, square) = (
                try read(#"{"size": 24, "crop_size": 24, "do_center_crop": true}"#),
                try read(#"{"size": {"shortest_edge": 30}, "resample": 2}"#),
                try read(#"{"size": {"height": 24, "width": 24}, "do_center_crop": false}"#)
            )
            #expect(numbers == .clip(side: 24))
            #expect(shortest.fit == .centreCrop(shortestSide: 30) && shortest.filter == .bilinear)
            #expect(square.fit == .stretch)
            for (json, message) in [
                (#"{"crop_size": 32}"#, "makes images of 32 x 32 pixels, the model takes 24 x 24"),
                (#"{"size": {"height": 32, "width": 24}}"#, "makes images of 24 x 32 pixels, the model takes 24 x 24"),
                (#"{"size": 20, "crop_size": 24}"#, "shortest_edge 20 without a crop to 24 x 24 is not supported"),
                (#"{"do_resize": false}"#, "do_resize false is not supported, only true"),
                (#"{"resample": 0}"#, "resample 0 is not supported"),
                (#"{"rescale_factor": 1}"#, "rescale_factor 1.0 is not supported"),
                (#"{"rescale_factor": NaN}"#, "rescale_factor nan is not supported"),
                (#"{"image_std": [1, 1]}"#, "image_mean and image_std must hold three numbers each"),
                (#"{"image_std": [1, 0, 1]}"#, "entry \"image_std\" is 0.0, expected 1e-06 to 1000000.0"),
                (#"{"image_mean": [1, NaN, 1]}"#, "entry \"image_mean\" is nan, expected -1000000.0 to 1000000.0"),
            ] {
                let error = #expect(throws: ModelError.self) { try read(json) }
                #expect(error?.message == message)
                #expect(error?.source == folder + "/preprocessor_config.json")
            }
        }
    }
}
