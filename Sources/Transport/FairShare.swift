/// A number of things and the bytes they occupy.
struct Load: Equatable {
    var count = 0
    var byteCount = 0

    static func + (a: Load, b: Load) -> Load { Load(count: a.count + b.count, byteCount: a.byteCount + b.byteCount) }
    static func - (a: Load, b: Load) -> Load { Load(count: a.count - b.count, byteCount: a.byteCount - b.byteCount) }
    static func / (a: Load, b: Int) -> Load { Load(count: a.count / b, byteCount: a.byteCount / b) }

    /// Whether neither number is larger than the other's.
    func fits(in other: Load) -> Bool { count <= other.count && byteCount <= other.byteCount }
}

/// Who holds what of something that all peers share, and how much each may hold.
///
/// One rule for everybody: nobody holds more than is left free after it, so its limit is half of what the others leave. A lone
/// peer gets half; when n peers want all they can get, each has 1/(n + 1) and as much is free for the next to come. Within a
/// peer's limit the same rule holds among its connections. Nothing is reserved, nothing depends on how many there are.
///
/// - Source: "dynamic threshold" with alpha = 1 of A. Choudhury and E. Hahne, "Dynamic queue length thresholds for
///   shared-memory packet switches", IEEE/ACM Transactions on Networking 6 (1998).
final class FairShare {
    /// What somebody holds. It lives as long as that is anything.
    final class Account {
        fileprivate let parent: Account?
        fileprivate let name: String
        fileprivate var parts: [String: Account] = [:]
        /// What it holds, its parts included.
        fileprivate(set) var held = Load()

        fileprivate init(parent: Account?, name: String) {
            self.parent = parent
            self.name = name
        }
    }

    /// What all together may hold.
    let capacity: Load
    private let root = Account(parent: nil, name: "")

    init(capacity: Load) { self.capacity = capacity }

    /// What all together hold.
    var held: Load { root.held }

    /// What the holder of this name holds.
    func held(by path: [String]) -> Load { find(path)?.held ?? Load() }

    /// Adds a load if it stays within its holder's limit.
    ///
    /// - Parameter path: the peer, then its connection, if connections are told apart.
    /// - Returns: who pays, to be given to `remove`; nil when there is no room for it.
    func admit(_ load: Load, to path: [String]) -> Account? {
        let account = open(path)
        guard (account.held + load).fits(in: limit(of: account)) else {
            close(account)
            return nil
        }
        change(account) { $0 + load }
        return account
    }

    /// Whether a load would stay within its holder's limit.
    func hasRoom(for load: Load, to path: [String]) -> Bool {
        let account = open(path)
        defer { close(account) }
        return (account.held + load).fits(in: limit(of: account))
    }

    /// Adds a load whatever the limits say.
    func add(_ load: Load, to path: [String]) -> Account {
        let account = open(path)
        change(account) { $0 + load }
        return account
    }

    /// Takes a load away that was added before.
    func remove(_ load: Load, from account: Account) {
        change(account) { $0 - load }
        close(account)
    }

    /// Whether somebody is within its limit.
    func isWithinLimit(_ account: Account) -> Bool { account.held.fits(in: limit(of: account)) }

    private func limit(of account: Account) -> Load {
        guard let parent = account.parent else { return capacity }
        return (limit(of: parent) - (parent.held - account.held)) / 2
    }

    private func find(_ path: [String]) -> Account? {
        path.reduce(Optional(root)) { account, name in account?.parts[name] }
    }

    private func open(_ path: [String]) -> Account {
        path.reduce(root) { parent, name in
            if let account = parent.parts[name] { return account }
            let account = Account(parent: parent, name: name)
            parent.parts[name] = account
            return account
        }
    }

    /// Forgets accounts that hold nothing.
    private func close(_ account: Account) {
        guard account.held == Load(), account.parts.isEmpty, let parent = account.parent else { return }
        parent.parts[account.name] = nil
        close(parent)
    }

    private func change(_ account: Account, _ body: (Load) -> Load) {
        var next: Account? = account
        while let account = next {
            account.held = body(account.held)
            next = account.parent
        }
    }
}
