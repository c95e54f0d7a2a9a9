import AdvGRPO
import Foundation
import NeuralNetworks
import SafeTensors
import TensorCore
import TestSupport
import Testing

@testable import MethodModels

/// The judge that only evaluations read, against timm.
@Suite struct CaptionJudgeTests {
    private let engine: any Engine = OpenBLASEngine.shared

    private func pictures() throws -> Tensor {
        let golden = try Golden("judge.safetensors")
        return engine.tensor(try golden.integers("judge/images").map { Float($0) / 255 }, shape: [7, 16, 16, 3])
    }

    private func judge(_ folder: String, unlike seen: [CaptionJudge.Seen] = []) throws -> CaptionJudge {
        try CaptionJudge(
            folder: folder, unlike: seen, pictures_BHWC: try pictures(), engine: engine, chunks: Chunks(size: 3))
    }

    @Test("log-probabilities, ranks, features and figures are timm's")
    func twin() throws {
        let golden = try Golden("judge.safetensors")
        let judge = try judge(Repository.fixtures + "/judge-a")
        let json = try Data(contentsOf: URL(fileURLWithPath: Repository.fixtures + "/judge.json"))
        let document = try #require(try JSONSerialization.jsonObject(with: json) as? [String: Any])
        let expected = try #require(document["judge"] as? [String: Any])
        let classes = try #require(expected["classes"] as? [Int])
        #expect(judge.captions == expected["captions"] as? [String])
        let images = try pictures()
        let judged = try judge.judged(
            images: (0..<7).map { images.rows($0..<$0 + 1) }, references: (0..<7).map { _ in images },
            prompts: classes.map { judge.captions[$0] }, lanes: Lanes(count: 2))
        let all = try golden.floats("judge/logProbabilities")
        for (index, (opinion, caption)) in zip(judged, classes).enumerated() {
            let row = all[index * 6..<(index + 1) * 6]
            let own = row[index * 6 + caption]
            #expect(abs(opinion.logProbabilities[0] - Double(own)) < 2e-5)
            #expect(opinion.ranks[0] == row.filter { $0 > own }.count)
            #expect(abs(opinion.similarities[0] - 1) < 1e-6, "an image is among its references")
        }
        expectClose(
            concatenated(judged.map(\.features_BD), axis: 0).values, try golden.floats("judge/features"),
            relative: 1e-5, absolute: 2e-5)
        let report = JudgeReport(judged, captionCount: 6, lanes: Lanes(count: 2))
        for (name, value) in JudgeReport.metrics.values(of: report) {
            guard let figure = expected[name] as? Double else { continue }
            #expect(abs(value - figure) < 2e-5, "\(name)")
        }
        #expect(report.images == 7 && report.prompts == 7 && report.standardErrors["logProbability"] ?? 0 > 0)
        #expect(JudgeReport(judged, captionCount: 5, lanes: Lanes(count: 1)).top5 == nil)
    }

    @Test(
        "a judge that is a backbone seen before is refused, under another name, in fewer bits and with a head of its own"
    )
    func seen() throws {
        let own = Repository.fixtures + "/judge-a"
        let seen = [
            CaptionJudge.Seen(folder: Repository.fixtures + "/dino-a", role: "the evaluation's backbone"),
            CaptionJudge.Seen(folder: own, role: "the reward's backbone"),
        ]
        #expect(try judge(own, unlike: Array(seen.prefix(1))).captions.count == 6)
        try withTemporaryFolder { folder in
            try copy(own, to: folder) { name, floats in
                name.hasPrefix("head.")
                    ? floats.map { $0 + 1 } : floats.map { Float(bitPattern: $0.bitPattern & 0xFFFF_0000) }
            }
            for same in [own, folder] {
                let error = #expect(throws: ModelError.self) { try judge(same, unlike: seen) }
                #expect(error?.source == same && error?.message.contains("the reward's backbone (\(own))") == true)
            }
        }
    }

    @Test(
        "what is no judge is refused by file and entry",
        arguments: [
            ("no list", "classes.json"), ("twice", "twice"), ("one", "two at least"), ("too few", "[5, 12]"),
            ("no head", "head.weight is not there"), ("not text", "classes.json"),
        ])
    func refused(damage: String, words: String) throws {
        try withTemporaryFolder { folder in
            try copy(Repository.fixtures + "/judge-a", to: folder) { name, floats in
                damage == "no head" && name.hasPrefix("head.") ? nil : floats
            }
            let list = URL(fileURLWithPath: folder + "/classes.json")
            switch damage {
            case "no list": try FileManager.default.removeItem(at: list)
            case "twice": try Data(#"["a", "b", "a", "c", "d", "e"]"#.utf8).write(to: list)
            case "one": try Data(#"["a"]"#.utf8).write(to: list)
            case "too few": try Data(#"["a", "b", "c", "d", "e"]"#.utf8).write(to: list)
            case "not text": try Data("[1, 2]".utf8).write(to: list)
            default: break
            }
            let error = #expect(throws: ModelError.self) { try judge(folder) }
            #expect(error.map { "\($0)".contains(words) } == true, "\(String(describing: error))")
        }
    }

    /// A judge's folder with other tensors; those that `change` has none for are left out.
    private func copy(_ source: String, to folder: String, _ change: (String, [Float]) -> [Float]?) throws {
        for name in ["config.json", "classes.json"] {
            try FileManager.default.copyItem(atPath: "\(source)/\(name)", toPath: "\(folder)/\(name)")
        }
        let file = try SafeTensorsFile(path: source + "/model.safetensors")
        let tensors = try file.entries.compactMap { entry in
            try change(entry.name, file.floats(of: entry.name)).map {
                SafeTensor(name: entry.name, shape: entry.shape, floats: $0)
            }
        }
        try SafeTensorsWriter.write(tensors, metadata: ["format": "pt"], to: folder + "/model.safetensors")
    }
}
