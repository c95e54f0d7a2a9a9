internal import LibC
internal import Platform
public import Protocol
internal import SafeTensors
internal import Synchronization

/// What a role is asked to do, so that it is known again: kind and content, whoever sends it and however often.
public struct RequestFingerprint: Sendable, Hashable, CustomStringConvertible {
    /// 32 hexadecimal digits, the kind, and a word or two for people.
    public let description: String

    /// The fingerprint of a message.
    public init(of message: ReceivedMessage) {
        let parts = message.tensors.names.compactMap { name in message.tensors[name].map { (name, $0.bytes) } }
        self.init(kind: message.envelope.kind, text: message.json, tensors: parts)
    }

    /// The fingerprint of work that a lease gives, whatever lease that is.
    public init(of lease: Lease) {
        self.init(
            kind: .leaseAnswer,
            text: "\(lease.task) \(lease.prompt) \(lease.memberCount) \(lease.weights.digest.hexadecimal)", tensors: [])
    }

    private init(kind: MessageKind, text: String, tensors: [(name: String, bytes: SharedBytes)]) {
        // Digests of parts, digested: no part can be taken for the end of another.
        var whole = XXH3()
        for part in [Array(text.utf8)] + tensors.map({ Array($0.name.utf8) }) { whole.update(XXH3.digest(of: part)) }
        for tensor in tensors { whole.update(tensor.bytes.withUnsafeBytes { XXH3.digest(of: $0) }) }
        description = "\(whole.hexadecimal) \(kind)"
    }

    /// A line of a journal.
    init(line: String) { description = line }
}

/// Which requests ended a role, in a file that outlives it: none of them is carried out a second time.
///
/// A role says what it is at work on; that costs no system call. When a signal of its own doing ends it (an illegal
/// instruction, a failed precondition, a wrong address), the signal's handler appends a line to the file. A process
/// that somebody killed leaves none: that is no fault of what it was doing. The file is removed by people, who have
/// mended the cause.
///
/// One a process: the handler knows the last one that was made.
public final class RequestJournal: Sendable {
    /// Where a request is carried out; one at a time at each.
    public enum Place: Int, Sendable, CaseIterable {
        /// On the thread that takes requests in.
        case admission
        /// On the compute thread, and threads that work for it.
        case work
    }

    /// The file.
    public let path: String
    private let refused: Set<RequestFingerprint>

    /// Reads what ended this role before, and watches over what it does from now on. The file's folder is made if it is missing.
    ///
    /// - Throws: `RuntimeError` when the file cannot be read or written.
    public init(path: String) throws(RuntimeError) {
        self.path = path
        try FileStore.createFolder(FileStore.parent(of: path))
        let file = try OpenFile(path, .append)
        let text = try FileStore.read(try OpenFile(path, .read), byteLimit: 64 << 20)
        refused = Set(String(decoding: text, as: UTF8.self).split(separator: "\n").map { .init(line: String($0)) })
        LastWords.watch(file.descriptor)
    }

    /// Carries a request out, unless it ended this role before.
    ///
    /// - Throws: `endedRole`, or what `body` throws.
    public func during<Value>(
        _ request: RequestFingerprint, at place: Place, _ body: () throws -> Value
    ) throws -> Value {
        guard !refused.contains(request) else {
            throw Failure(
                code: .endedRole, message: "this request ended the process that carried it out before: \(request)",
                remedy: "see what its log says of it, and remove \(path) to have it tried again")
        }
        LastWords.begin(place, request.description)
        defer { LastWords.end(place) }
        return try body()
    }

    /// The journal of a role of a run.
    public static func path(of name: String, logsFolder: String) -> String { "\(logsFolder)/\(name).requests" }

    /// How long a role's journal is: it has grown when a request ended the role.
    static func byteCount(of path: String) -> Int { FileStore.byteCount(of: path) ?? 0 }
}

/// What a process would say if it ended now, and the handlers that say it. They may only read memory that is there and
/// write.
private enum LastWords {
    /// Bytes of a place: its thread, the length of its line (0: nothing is carried out there), the line.
    private static let stride = 256
    private static let lineOffset = 16
    private static let signals: [Int32] = [SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV]

    /// Has what happens from now on written to a file, which is never closed.
    static func watch(_ descriptor: Int32) {
        lastWordsFile.store(fcntl(descriptor, F_DUPFD_CLOEXEC, 3), ordering: .releasing)
        guard lastWordsMemory.load(ordering: .acquiring) == 0 else { return }
        let size = stride * RequestJournal.Place.allCases.count
        let memory = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 16)
        memory.initializeMemory(as: UInt8.self, repeating: 0, count: size)
        let earlier = UnsafeMutablePointer<sigaction>.allocate(capacity: 65)
        earlier.initialize(repeating: sigaction(), count: 65)
        lastWordsEarlier.store(UInt(bitPattern: earlier), ordering: .releasing)
        lastWordsMemory.store(UInt(bitPattern: memory), ordering: .releasing)
        for number in signals { install(number, earlier) }
    }

    static func begin(_ place: RequestJournal.Place, _ text: String) {
        guard let memory = memory(of: place) else { return }
        memory.storeBytes(of: UInt(bitPattern: threadNumber()), as: UInt.self)
        var count: Int32 = 0
        for byte in text.utf8.prefix(stride - lineOffset - 1) {
            memory.storeBytes(of: byte, toByteOffset: lineOffset + Int(count), as: UInt8.self)
            count += 1
        }
        memory.storeBytes(of: UInt8(ascii: "\n"), toByteOffset: lineOffset + Int(count), as: UInt8.self)
        atomicMemoryFence(ordering: .releasing)
        memory.storeBytes(of: count + 1, toByteOffset: 8, as: Int32.self)
    }

    static func end(_ place: RequestJournal.Place) {
        memory(of: place)?.storeBytes(of: 0, toByteOffset: 8, as: Int32.self)
    }

    private static func memory(of place: RequestJournal.Place) -> UnsafeMutableRawPointer? {
        UnsafeMutableRawPointer(bitPattern: lastWordsMemory.load(ordering: .acquiring))?
            .advanced(by: place.rawValue * stride)
    }

    private static func install(_ number: Int32, _ earlier: UnsafeMutablePointer<sigaction>) {
        var action = sigaction()
        action.sa_flags = Int32(SA_ONSTACK) | Int32(SA_SIGINFO)
        let handler: Handler = { number, details, context in
            LastWords.say()
            // Whoever was there before says what it has to say: Swift's own shows where it happened. Then the process
            // ends, also when the signal was sent and will not come again by itself.
            LastWords.earlier(of: number)?(number, details, context)
            signal(number, SIG_DFL)
            raise(number)
        }
        #if canImport(Darwin)
            action.__sigaction_u.__sa_sigaction = handler
        #else
            action.__sigaction_handler.sa_sigaction = handler
        #endif
        sigaction(number, &action, earlier.advanced(by: Int(number)))
    }

    private typealias Handler =
        @convention(c) (Int32, UnsafeMutablePointer<siginfo_t>?, UnsafeMutableRawPointer?) -> Void

    /// What handled a signal before, if it wants to know more than its number.
    private static func earlier(of number: Int32) -> Handler? {
        let address = lastWordsEarlier.load(ordering: .acquiring)
        guard let earlier = UnsafePointer<sigaction>(bitPattern: address)?.advanced(by: Int(number)).pointee,
            earlier.sa_flags & Int32(SA_SIGINFO) != 0
        else { return nil }
        #if canImport(Darwin)
            return earlier.__sigaction_u.__sa_sigaction
        #else
            return earlier.__sigaction_handler.sa_sigaction
        #endif
    }

    /// Writes the line of what the thread that is ending carried out; of the compute thread's, when it is none of the
    /// two: threads that work for it have no place of their own.
    private static func say() {
        let address = lastWordsMemory.load(ordering: .acquiring)
        guard let memory = UnsafeRawPointer(bitPattern: address) else { return }
        let admission = memory
        let work = memory.advanced(by: stride)
        let isAdmitting =
            admission.load(fromByteOffset: 8, as: Int32.self) > 0
            && admission.load(as: UInt.self) == UInt(bitPattern: threadNumber())
        let place = isAdmitting ? admission : work
        let count = place.load(fromByteOffset: 8, as: Int32.self)
        if count > 0 { _ = write(lastWordsFile.load(ordering: .acquiring), place.advanced(by: lineOffset), Int(count)) }
    }
}

/// The calling thread, by a number that no other living thread has.
private func threadNumber() -> Int { Int(bitPattern: UInt(pthread_self())) }

private let lastWordsFile = Atomic<Int32>(-1)
private let lastWordsMemory = Atomic<UInt>(0)
/// What was done on each signal before.
private let lastWordsEarlier = Atomic<UInt>(0)
