public import Protocol
public import Transport

/// The admission of a role: what arrives at its socket is let through to a handler or answered here, and no handler sees a
/// request that its sender may not send, that ended the role before, or that cannot be read.
///
/// Health, stop, failures and kinds that the role has no handler for are the same for all roles. Handlers run on the
/// socket's thread and return at once; one that must wait hands the request on.
public final class Router: Sendable {
    /// Answers a request, or hands it on. What it throws is told to the requester.
    public typealias Handler = @Sendable (Request) throws -> Void

    private let role: Role
    private let shutdown: ShutdownSignal
    private let journal: RequestJournal?
    private let handlers: [MessageKind: Handler]

    /// A router with these handlers.
    ///
    /// - Parameters:
    ///   - role: whose requests it admits.
    ///   - clock: where the role's time goes.
    ///   - shutdown: asked for the end by an operator.
    ///   - journal: what ended the role before; nil where nothing is kept of that.
    ///   - routes: a handler for every kind of the role's own.
    ///   - health: what only the role knows of how it is.
    public init<Activity: RoleActivity>(
        _ role: Role, clock: RoleClock<Activity>, shutdown: ShutdownSignal, journal: RequestJournal? = nil,
        _ routes: [Route], health: @escaping @Sendable () async -> RoleHealth
    ) {
        self.role = role
        self.shutdown = shutdown
        self.journal = journal
        var handlers = Dictionary(uniqueKeysWithValues: routes.map { ($0.kind, $0.handler) })
        handlers[.healthRequest] = { request in
            _ = try request.decoded(as: HealthRequest.self)
            Task {
                let health = await health()
                request.reply(health.answer(of: role, seconds: clock.seconds(), request.serverStatistics))
            }
        }
        handlers[.stopRequest] = { request in
            let stop = try request.decoded(as: StopRequest.self)
            // The reply first: the role may close its socket as soon as it knows.
            request.reply(StopAcknowledgement())
            shutdown.request(stop.reason, drains: stop.drain)
        }
        self.handlers = handlers
    }

    /// Answers a request, now or later.
    public func handle(_ request: Request) {
        request.answering {
            try Permission.check(request.kind, from: request.peer.role, to: role)
            guard let handler = handlers[request.kind] else {
                throw Failure(code: .wrongServer, message: "\(role.rawValue) does not answer \(request.kind)")
            }
            guard let journal else { return try handler(request) }
            try journal.during(RequestFingerprint(of: request.message), at: .admission) { try handler(request) }
        }
    }
}

/// A kind of request and what a role does with it.
public struct Route: Sendable {
    let kind: MessageKind
    let handler: Router.Handler

    /// A request is read, then handled.
    public init<Message: WireRequest>(
        _ type: Message.Type, _ handle: @escaping @Sendable (Message, Request) throws -> Void
    ) {
        kind = Message.kind
        handler = { request in try handle(try request.decoded(as: type), request) }
    }

    /// A request is read, then answered at once.
    public init<Message: WireRequest>(
        _ type: Message.Type, _ answer: @escaping @Sendable (Message) throws -> Message.Reply
    ) {
        self.init(type) { message, request in request.reply(try answer(message)) }
    }
}

extension Hello {
    /// The sender introduces itself as what it is.
    ///
    /// - Throws: `notAllowed`.
    public func check(_ peer: Request.Peer) throws(Failure) {
        guard role == peer.role else {
            throw Failure(
                code: .notAllowed,
                message: "\(name) says it is a \(role.rawValue), its requests come from a \(peer.role.rawValue)",
                remedy: "use the key that `advgrpo keygen` made for the role")
        }
    }
}

extension Request {
    /// Does something for the requester, who is told of every error.
    ///
    /// - Returns: the failure that was told; nil when there was none.
    @discardableResult
    public func answering(_ body: () throws -> Void) -> Failure? {
        do {
            try body()
            return nil
        } catch {
            let failure = Failure(anyError: error)
            fail(failure)
            return failure
        }
    }
}

extension Failure {
    /// Any error as a peer is told of it.
    public init(anyError error: any Error) {
        switch error {
        case let failure as Failure: self = failure
        case let error as WireError: self.init(error)
        default: self.init(code: .failed, message: "\(error)")
        }
    }
}
