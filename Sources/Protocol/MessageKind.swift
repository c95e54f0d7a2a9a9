/// What a message is; requests and replies share one number space, and a number is never given a second meaning: 5 and 6 were
/// the weights of protocol version 1.
public enum MessageKind: UInt16, Sendable, Hashable, CaseIterable {
    case hello = 1
    case welcome = 2
    case leaseRequest = 3
    case leaseAnswer = 4
    case groupResult = 7
    case taskFailure = 8
    case taskAcknowledgement = 9
    case heartbeat = 10
    case heartbeatAcknowledgement = 11
    case scoreRequest = 12
    case scores = 13
    case discriminatorTraining = 14
    case discriminatorTrained = 15
    case discriminatorStateRequest = 16
    case discriminatorState = 17
    case discriminatorRestore = 18
    case discriminatorRestored = 19
    case healthRequest = 20
    case health = 21
    case statusRequest = 22
    case status = 23
    case stopRequest = 24
    case stopAcknowledgement = 25
    case failure = 26
    case manifestRequest = 27
    case manifest = 28
    case piecesRequest = 29
    case pieces = 30
    case epochOpening = 31
    case epochOpened = 32
    case rewardRequest = 33
    case rewards = 34
    case gradientResult = 35
    case contentRequest = 36
    case content = 37
}

extension MessageKind {
    /// Whether a request of this kind is for the run that its sender belongs to, and refused by a server of another: all but those
    /// that ask which run it is, take it over, or are for the process.
    public var belongsToRun: Bool {
        ![.hello, .healthRequest, .statusRequest, .stopRequest, .discriminatorRestore].contains(self)
    }
}
