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
        try withTemporaryFolder { folder in
            let picture = Repository.fixtures + "/Raster/source.png"
            let prompts = (0..<20).map { "prompt \($0)" }
            let list = folder + "/prompt2img.json"
            try JSONEncoder().encode(Dictionary(uniqueKeysWithValues: prompts.map { ($0, [picture]) })).write(
                to: URL(filePath: list))
            let library = try ReferenceLibrary(path: list, required: prompts)

            func heldOut(_ holdsOut: Bool) -> [String] {
                ReferenceFeatures(
                    library: library, prompts: prompts, holdsOut: holdsOut, side: 8, engine: OpenBLASEngine.shared,
                    reconstruction: nil
                ).prompts.filter(\.isHeldOut).map(\.text)
            }
            #expect(heldOut(true) == ["prompt 9", "prompt 19"])
            #expect(heldOut(false) == [])
        }
    }
}
