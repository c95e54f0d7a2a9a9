import AdvGRPO
import Datasets
import Foundation
import TensorCore
import TestSupport
import Testing

@testable import RewardServer

@Suite struct ReferenceFeaturesTests {
    @Test("every tenth prompt measures where references are drawn, none where the epoch's own are taken")
    func heldOut() throws {
        let folder = FileManager.default.temporaryDirectory.appending(
            path: "references-\(UInt32.random(in: 0 ... .max))")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let picture = Repository.fixtures + "/Raster/source.png"
        let prompts = (0..<20).map { "prompt \($0)" }
        let list = folder.appending(path: "prompt2img.json")
        try JSONEncoder().encode(Dictionary(uniqueKeysWithValues: prompts.map { ($0, [picture]) })).write(to: list)
        let library = try ReferenceLibrary(path: list.path, required: prompts)

        func heldOut(_ holdsOut: Bool) -> [String] {
            ReferenceFeatures(
                library: library, prompts: prompts, holdsOut: holdsOut, side: 8, engine: OpenBLASEngine.shared,
                autoencoder: nil
            ).prompts.filter(\.isHeldOut).map(\.text)
        }
        #expect(heldOut(true) == ["prompt 9", "prompt 19"])
        #expect(heldOut(false) == [])
    }
}
