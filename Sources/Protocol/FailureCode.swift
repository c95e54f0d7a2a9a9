/// Why a request was not carried out: a row of the table `allCases`, which docs/protocol.md prints.
///
/// Programs compare codes, people read the message beside it. A newer peer may send a name that is not in the table.
public struct FailureCode: RawRepresentable, Sendable, Hashable, Codable, CustomStringConvertible {
    /// The name on the wire.
    public let rawValue: String

    /// A code by its name, of the table or not.
    public init(rawValue: String) { self.rawValue = rawValue }

    /// The name.
    public var description: String { rawValue }

    /// Number of frames, magic or flags are wrong.
    public static let badFraming = FailureCode(rawValue: "badFraming")
    /// Another version of the protocol.
    public static let unsupportedVersion = FailureCode(rawValue: "unsupportedVersion")
    /// A kind that this version does not have, or that does not belong here.
    public static let unknownKind = FailureCode(rawValue: "unknownKind")
    /// Header and data are not a valid safetensors file.
    public static let malformedTensors = FailureCode(rawValue: "malformedTensors")
    /// The JSON lacks a field or has one of the wrong type.
    public static let malformedFields = FailureCode(rawValue: "malformedFields")
    /// A value breaks a rule of the message; field and range are named.
    public static let invalidValue = FailureCode(rawValue: "invalidValue")
    /// A size is beyond the limits.
    public static let limitExceeded = FailureCode(rawValue: "limitExceeded")
    /// The role of the sender's key may not send this kind to this role.
    public static let notAllowed = FailureCode(rawValue: "notAllowed")
    /// Another role answers this.
    public static let wrongServer = FailureCode(rawValue: "wrongServer")
    /// The server belongs to another run.
    public static let wrongRun = FailureCode(rawValue: "wrongRun")
    /// Other images, prompts, steps or shapes than the run's.
    public static let notOfThisRun = FailureCode(rawValue: "notOfThisRun")
    /// The group's epoch is not the open one.
    public static let closedEpoch = FailureCode(rawValue: "closedEpoch")
    /// Too much is in progress, or the server is about to end; ask again later.
    public static let busy = FailureCode(rawValue: "busy")
    /// No discriminator or no open epoch yet; ask again when the learner has restored the server.
    public static let notReady = FailureCode(rawValue: "notReady")
    /// This request ended the process that carried it out, and is not carried out again.
    public static let endedRole = FailureCode(rawValue: "endedRole")
    /// It could not be done.
    public static let failed = FailureCode(rawValue: "failed")
    /// A fault of the server.
    public static let `internal` = FailureCode(rawValue: "internal")
    /// Of `hello`: the sender runs other settings.
    public static let settingsMismatch = FailureCode(rawValue: "settingsMismatch")
    /// Of `hello`: the sender has another model under the same name.
    public static let modelMismatch = FailureCode(rawValue: "modelMismatch")
    /// The worker has not said hello to this learner.
    public static let unknownWorker = FailureCode(rawValue: "unknownWorker")
    /// There is no work left.
    public static let runComplete = FailureCode(rawValue: "runComplete")
    /// The discriminator has another version than the one asked for.
    public static let versionMismatch = FailureCode(rawValue: "versionMismatch")
    /// A training names groups that were not scored here.
    public static let unknownGroup = FailureCode(rawValue: "unknownGroup")
    /// Another restore began; start again from the first chunk.
    public static let restoreInterrupted = FailureCode(rawValue: "restoreInterrupted")
    /// A state that cannot be the discriminator's.
    public static let invalidState = FailureCode(rawValue: "invalidState")
    /// A document has fewer chunks.
    public static let noSuchChunk = FailureCode(rawValue: "noSuchChunk")
    /// Weights that are not published any more; ask for a lease first.
    public static let staleVersion = FailureCode(rawValue: "staleVersion")
    /// Bytes without the digest or the length that they should have.
    public static let wrongBytes = FailureCode(rawValue: "wrongBytes")
    /// A relay could not fetch what it was asked for.
    public static let upstream = FailureCode(rawValue: "upstream")
    /// A reward process did not answer in time, or not with the group's rewards.
    public static let rewardProcess = FailureCode(rawValue: "rewardProcess")
}

extension FailureCode: CaseIterable {
    /// The whole table, as docs/protocol.md has it.
    public static let allCases: [FailureCode] = meanings.map(\.code)

    /// What each one tells the requester.
    public static let meanings: [(code: FailureCode, meaning: String)] = [
        (.badFraming, "number of frames, magic or flags are wrong"),
        (.unsupportedVersion, "another version of the protocol"),
        (.unknownKind, "a kind that this version does not have, or that does not belong here"),
        (.malformedTensors, "header and data are not a valid safetensors file"),
        (.malformedFields, "the JSON lacks a field or has one of the wrong type"),
        (.invalidValue, "a value breaks a rule of the message; field and range are named"),
        (.limitExceeded, "a size is beyond the limits"),
        (.notAllowed, "the role of the sender's key may not send this kind to this role"),
        (.wrongServer, "another role answers this"),
        (.wrongRun, "the server belongs to another run"),
        (.notOfThisRun, "other images, prompts, steps or shapes than the run's"),
        (.closedEpoch, "the group's epoch is not the open one"),
        (.busy, "too much is in progress, or the server is about to end; ask again later"),
        (.notReady, "no discriminator or no open epoch yet; ask again when the learner has restored the server"),
        (.endedRole, "this request ended the process that carried it out, and is not carried out again"),
        (.failed, "it could not be done"),
        (.internal, "a fault of the server"),
        (.settingsMismatch, "of `hello`: the sender runs other settings"),
        (.modelMismatch, "of `hello`: the sender has another model under the same name"),
        (.unknownWorker, "the worker has not said hello to this learner"),
        (.runComplete, "there is no work left"),
        (.versionMismatch, "the discriminator has another version than the one asked for"),
        (.unknownGroup, "a training names groups that were not scored here"),
        (.restoreInterrupted, "another restore began; start again from the first chunk"),
        (.invalidState, "a state that cannot be the discriminator's"),
        (.noSuchChunk, "a document has fewer chunks"),
        (.staleVersion, "weights that are not published any more; ask for a lease first"),
        (.wrongBytes, "bytes without the digest or the length that they should have"),
        (.upstream, "a relay could not fetch what it was asked for"),
        (.rewardProcess, "a reward process, which is named, did not answer in time or not with the group's rewards"),
    ]
}
