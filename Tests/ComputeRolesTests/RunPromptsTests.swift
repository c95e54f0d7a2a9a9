import ComputeRoles
import Configuration
import Datasets
import Foundation
import TestSupport
import Testing
import TinyRun

@Suite("prompts of a run")
struct RunPromptsTests {
    /// The tiny run's data with two more prompts to train on and one more to evaluate, which have no references, and one with an
    /// empty list of them.
    private func withData(_ overrides: [String] = [], _ body: (Settings) throws -> Void) throws {
        try withTemporaryFolder { folder in
            let settings = try TinyRun.load(in: folder, overrides: overrides)
            func append(_ lines: String, to path: String) throws {
                let text = try String(contentsOfFile: path, encoding: .utf8)
                try Data((text + lines).utf8).write(to: URL(filePath: path))
            }
            try append("a pink cube\nan empty list\n", to: settings.data.prompts)
            try append("a blue cone\n", to: settings.data.evaluationPrompts)
            var references = try JSONDecoder().decode(
                [String: [String]].self, from: Data(contentsOf: URL(filePath: settings.data.references)))
            references["an empty list"] = []
            try JSONEncoder().encode(references).write(to: URL(filePath: settings.data.references))
            try body(settings)
        }
    }

    @Test("without references they are refused in one sentence that says how they are left out")
    func refused() throws {
        try withData(["run.evaluation.prompts=3"]) { settings in
            let prompts = try RunPrompts(settings)
            #expect(prompts.training.count == 6 && prompts.evaluated.count == 3 && prompts.warning == nil)
            let error = try #require(throws: DatasetError.self) {
                try prompts.references(of: prompts.training + prompts.evaluated)
            }
            #expect(
                error.description.contains(
                    "no references for 2 of 9 prompts: \"a pink cube\", \"a blue cone\"; add them with their images, or leave "
                        + "them out (data.missingReferences: leaveOut)"))
            #expect(error.description.contains("\"an empty list\": no images are listed"))
        }
    }

    @Test("left out they are neither trained on nor evaluated, and named")
    func leftOut() throws {
        try withData(["run.evaluation.prompts=3", "data.missingReferences=leaveOut"]) { settings in
            let prompts = try RunPrompts(settings)
            #expect(prompts.training == TinyRun.trainingPrompts)
            #expect(prompts.evaluation == TinyRun.evaluationPrompts && prompts.evaluated == TinyRun.evaluationPrompts)
            #expect(prompts.leftOut == ["a pink cube", "an empty list", "a blue cone"])
            #expect(
                prompts.warning?.hasSuffix(
                    "no references for 3 of 9 prompts, which are left out: \"a pink cube\", \"an empty list\", \"a blue cone\""
                )
                    == true, "\(prompts.warning ?? "")")
            let library = try prompts.references(of: prompts.training + prompts.evaluated)
            #expect(!library.contains("an empty list") && library.paths(of: TinyRun.trainingPrompts[0]).count == 2)
        }
    }

    @Test(
        "of a list of which nothing is left the run does not begin; a picture that is not there is a mistake all the same"
    )
    func nothingLeft() throws {
        let leavesOut = "data.missingReferences=leaveOut"
        try withData([leavesOut]) { settings in
            func refusal(_ settings: Settings) throws -> String {
                try #require(throws: DatasetError.self) { try RunPrompts(settings) }.description
            }
            let path = settings.data.references
            try Data(#"{"a grey moon": ["images/4-0.png"]}"#.utf8).write(to: URL(filePath: path))
            #expect(try refusal(settings).contains("none of the prompts of \(settings.data.prompts) has references"))
            try Data(#"{"a red circle": ["images/0-0.png"]}"#.utf8).write(to: URL(filePath: path))
            // Nothing is evaluated here.
            #expect(try RunPrompts(settings).evaluation.isEmpty)
            var evaluating = settings
            evaluating.run.evaluation.prompts = 1
            #expect(try refusal(evaluating).contains("none of the prompts of \(settings.data.evaluationPrompts)"))
            try Data(#"{"a red circle": ["images/gone.png"]}"#.utf8).write(to: URL(filePath: path))
            #expect(try refusal(settings).contains("gone.png: no such file"))
        }
    }
}
