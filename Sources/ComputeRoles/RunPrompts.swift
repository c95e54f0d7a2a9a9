public import Configuration
public import Datasets

/// The prompts of a run: those that its settings name, without those that they leave out.
public struct RunPrompts: Sendable {
    /// Those that are trained on, in the order of `data.prompts`. Not empty.
    public let training: [String]
    /// Those that measure and are shown, in the order of `data.evaluationPrompts`.
    public let evaluation: [String]
    /// Those of both lists that are left out, as they have no references.
    public let leftOut: [String]
    private let data: DataSettings
    private let evaluatedCount: Int

    /// Reads the lists, and where prompts may be left out the references, too.
    ///
    /// - Throws: `DatasetError` of a file, or where nothing is left to train on or to evaluate.
    public init(_ settings: Settings) throws(DatasetError) {
        data = settings.data
        evaluatedCount = settings.run.evaluation.prompts
        let training = try PromptList(path: data.prompts, without: data.evaluationPrompts).prompts
        let evaluation = try PromptList(path: data.evaluationPrompts).prompts
        guard data.missingReferences == .leaveOut else {
            (self.training, self.evaluation, leftOut) = (training, evaluation, [])
            return
        }
        let library = try ReferenceLibrary(path: data.references, dropsEmpty: true)
        self.training = training.filter(library.contains)
        self.evaluation = evaluation.filter(library.contains)
        leftOut = (training + evaluation).filter { !library.contains($0) }
        func checkSome(_ left: [String], of list: String) throws(DatasetError) {
            guard left.isEmpty else { return }
            throw DatasetError(
                code: .invalidReferences, path: data.references,
                message: "none of the prompts of \(list) has references",
                remedy: "name the references of these prompts, or other prompts")
        }
        try checkSome(self.training, of: data.prompts)
        if evaluatedCount > 0 { try checkSome(self.evaluation, of: data.evaluationPrompts) }
    }

    /// The prompts of the evaluation.
    public var evaluated: [String] { Array(evaluation.prefix(evaluatedCount)) }

    /// The references, of these prompts for certain.
    ///
    /// - Throws: `DatasetError` that names prompts without any and all else that is wrong with them.
    public func references(of prompts: [String]) throws(DatasetError) -> ReferenceLibrary {
        try ReferenceLibrary(
            path: data.references, required: prompts,
            remedy: "add them with their images, or leave them out (data.missingReferences: leaveOut)",
            dropsEmpty: data.missingReferences == .leaveOut)
    }

    /// A sentence that names what is left out; nil where nothing is.
    public var warning: String? {
        leftOut.isEmpty
            ? nil
            : "\(data.references) has no references for \(leftOut.count) of "
                + "\(leftOut.count + training.count + evaluation.count) prompts, which are left out: "
                + PromptText.list(leftOut)
    }
}
