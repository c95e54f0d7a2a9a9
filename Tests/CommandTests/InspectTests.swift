import Foundation
import TestSupport
import Testing

extension ProcessTests {
    /// `advgrpo inspect`: what it calls the folders and files that other libraries write.
    @Suite("Inspect", .timeLimit(.minutes(2)))
    struct InspectTests {
        private func architectures(_ workspace: Workspace, _ path: String) async throws -> [String] {
            let finished = try await workspace.run("inspect", path, "--json")
            #expect(finished.exit == .status(0), "\(finished.errors)")
            let document = try JSONSerialization.jsonObject(with: Data(finished.output.utf8)) as? [String: Any]
            return (document?["parts"] as? [[String: Any]] ?? []).compactMap { $0["architecture"] as? String }
        }

        @Test("a folder is called by the class that wrote it, a lone file by its tensors' names")
        func names() async throws {
            try await withWorkspace { workspace in
                for (fixture, name) in [
                    ("dino-swiglu-hf", "Dinov2Model"), ("dino-v3-hf", "DINOv3ViTModel"),
                    ("clip-dual-a", "CLIPModel"), ("siglip-a", "SiglipModel"),
                ] {
                    let folder = Repository.fixtures + "/" + fixture
                    let (named, recognised) = (
                        try await architectures(workspace, folder),
                        try await architectures(workspace, folder + "/model.safetensors")
                    )
                    #expect(named == [name] && recognised == [name])
                }
                let predictor = try await architectures(
                    workspace, Repository.fixtures + "/clip-dual-a/sac+logos+ava1-l14-linearMSE.safetensors")
                #expect(predictor == ["aesthetic predictor"])
            }
        }
    }
}
