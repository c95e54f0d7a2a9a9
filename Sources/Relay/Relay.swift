public import Processes
import Protocol
import Synchronization
public import Transport

/// Passes weights on, so that the learner sends each version once, however many workers there are behind the relay.
///
///     consumes: requests for manifests and pieces
///     produces: the same, from what it keeps or fetches from the learner
///     waits for: the learner, a stated time
///     freed by: the shutdown signal
///
/// It knows nothing of runs and versions: what it is asked for is named by its digest, which it checks for damage, and so do its
/// workers, who also notice forgery.
/// It has no state worth saving.
public final class Relay: Sendable {
    private let learner: Client
    private let store: RelayStore
    private let shutdown: ShutdownSignal
    private let clock = RoleClock(RelayActivity.idle)
    private let inProgress = Mutex(0)
    private let journal: RequestJournal?

    /// A relay of the weights that `learner`'s server has: a learner's, or another relay's.
    ///
    /// - Parameters:
    ///   - learner: a client of that server.
    ///   - maximumByteCount: what it keeps at most.
    ///   - shutdown: the signal that ends it.
    ///   - journal: of what ended a relay here before; nil where nothing is kept of that.
    public init(
        learner: Client, maximumByteCount: Int, shutdown: ShutdownSignal, journal: RequestJournal? = nil
    ) {
        self.learner = learner
        self.shutdown = shutdown
        self.journal = journal
        store = RelayStore(learner: learner, maximumByteCount: maximumByteCount)
    }

    /// What answers the requests of the relay's socket.
    public var router: Router {
        Router(
            .relay, clock: clock, shutdown: shutdown, journal: journal,
            [
                Route(ManifestRequest.self) { [self] asked, request in
                    answer(request) { [store] in Manifest(text: try await store.manifest(asked.manifest)) }
                },
                Route(PiecesRequest.self) { [self] asked, request in
                    answer(request) { [store] in Pieces(try await store.pieces(asked)) }
                },
            ]
        ) { [self] in await health() }
    }

    private func answer<Reply: WireMessage>(
        _ request: Request, with reply: @escaping @Sendable () async throws -> Reply
    ) {
        count(1)
        Task {
            defer { count(-1) }
            do {
                request.reply(try await reply(), isKept: false)
            } catch let failure as Failure {
                request.fail(failure)
            } catch let error as WireError {
                request.fail(Failure(error))
            } catch {
                request.fail(Failure(code: .upstream, message: "\(error)", remedy: "ask the learner"))
            }
        }
    }

    /// Requests in progress, more or fewer.
    private func count(_ change: Int) {
        inProgress.withLock { inProgress in
            inProgress += change
            clock.enter(inProgress > 0 ? .serving : .idle)
        }
    }

    private func health() async -> RoleHealth {
        let (statistics, keptByteCount) = (await store.statistics, await store.keptByteCount)
        return RoleHealth(
            serving: statistics.failure == nil,
            reason: statistics.failure ?? "passing on weights of \(learner.endpoint)",
            counters: [
                "bytesFetched": Double(statistics.fetchedByteCount), "fetches": Double(statistics.fetchCount),
                "bytesServed": Double(statistics.servedByteCount), "requestsServed": Double(statistics.servedCount),
                "bytesKept": Double(keptByteCount),
            ])
    }
}
