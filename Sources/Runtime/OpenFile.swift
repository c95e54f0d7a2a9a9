internal import Platform

#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#else
    internal import Darwin
#endif

/// An open file that is closed when it goes out of scope. All calls block; all errors name the file.
struct OpenFile: ~Copyable, Sendable {
    /// How a file is opened.
    enum Mode {
        case read
        /// Created, or emptied if it exists.
        case replace
        /// Created if missing; every write goes to the end.
        case append
    }

    let path: String
    let descriptor: Int32

    init(_ path: String, _ mode: Mode) throws(RuntimeError) {
        let flags =
            switch mode {
            case .read: O_RDONLY
            case .replace: O_WRONLY | O_CREAT | O_TRUNC
            case .append: O_WRONLY | O_CREAT | O_APPEND
            }
        self.path = path
        let result = retrying { open(path, flags | O_CLOEXEC, 0o644) }
        guard result >= 0 else { throw systemError("cannot be opened", path, writing: mode != .read) }
        descriptor = result
    }

    deinit { close(descriptor) }

    /// Writes all bytes.
    func write(_ bytes: UnsafeRawBufferPointer) throws(RuntimeError) {
        var rest = bytes
        while let start = rest.baseAddress, !rest.isEmpty {
            let count = retrying { posixWrite(descriptor, start, rest.count) }
            guard count >= 0 else { throw systemError("cannot be written", path, writing: true) }
            rest = UnsafeRawBufferPointer(rebasing: rest[count...])
        }
    }

    /// Writes all bytes.
    func write(_ bytes: [UInt8]) throws(RuntimeError) {
        try bytes.withUnsafeBytes { buffer in Result { () throws(RuntimeError) in try write(buffer) } }.get()
    }

    /// Fills the buffer as far as the file reaches; 0 at its end.
    func read(into buffer: UnsafeMutableRawBufferPointer) throws(RuntimeError) -> Int {
        let count = retrying { posixRead(descriptor, buffer.baseAddress, buffer.count) }
        guard count >= 0 else { throw systemError("cannot be read", path, writing: false) }
        return count
    }

    /// Waits until the disk has the bytes.
    func sync() throws(RuntimeError) {
        guard fsync(descriptor) == 0 else { throw systemError("cannot be synced", path, writing: true) }
    }
}

/// Whole files and folders. All calls block.
enum FileStore {
    /// All bytes of a file.
    static func read(_ path: String) throws(RuntimeError) -> [UInt8] {
        let file = try OpenFile(path, .read)
        var bytes: [UInt8] = []
        try forEachChunk(of: file) { bytes.append(contentsOf: $0) }
        return bytes
    }

    /// Passes a file's bytes on in pieces of at most 1 MiB.
    static func forEachChunk(
        of file: borrowing OpenFile, _ body: (UnsafeRawBufferPointer) -> Void
    ) throws(RuntimeError) {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 16)
        defer { buffer.deallocate() }
        while true {
            let count = try file.read(into: buffer)
            if count == 0 { return }
            body(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
        }
    }

    /// Replaces a file as a whole: temporary name beside it, sync, rename, sync of the folder.
    static func replace(_ path: String, with bytes: [UInt8]) throws(RuntimeError) {
        let temporary = "\(path).\(getpid()).partial"
        do {
            try writeSynced(bytes, to: temporary)
            try rename(temporary, to: path)
        } catch {
            unlink(temporary)
            throw error
        }
        try sync(parent(of: path))
    }

    private static func writeSynced(_ bytes: [UInt8], to path: String) throws(RuntimeError) {
        let file = try OpenFile(path, .replace)
        try file.write(bytes)
        try file.sync()
    }

    /// Renames a file or folder, replacing a file of the new name.
    static func rename(_ old: String, to new: String) throws(RuntimeError) {
        guard posixRename(old, new) == 0 else {
            throw systemError("cannot be renamed to \(new)", old, writing: true)
        }
    }

    /// Makes `link` a symbolic link to `target`, replacing an older link at once.
    static func link(_ link: String, to target: String) throws(RuntimeError) {
        let temporary = "\(link).\(getpid()).partial"
        unlink(temporary)
        guard symlink(target, temporary) == 0 else { throw systemError("cannot be linked", link, writing: true) }
        do {
            try rename(temporary, to: link)
        } catch {
            unlink(temporary)
            throw error
        }
        try sync(parent(of: link))
    }

    /// Waits until the disk has a file's bytes or a folder's names.
    static func sync(_ path: String) throws(RuntimeError) {
        try OpenFile(path, .read).sync()
    }

    /// Creates a folder and those above it.
    static func createFolder(_ path: String) throws(RuntimeError) {
        if mkdir(path, 0o755) == 0 || isFolder(path) { return }
        let above = parent(of: path)
        if errno == ENOENT, above != path {
            try createFolder(above)
            if mkdir(path, 0o755) == 0 || isFolder(path) { return }
        }
        throw systemError("cannot be created", path, writing: true)
    }

    static func isFolder(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    static func parent(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }
}

/// The last system error as a `RuntimeError`; to be called before anything else can change `errno`.
func systemError(_ message: String, _ path: String, writing: Bool) -> RuntimeError {
    RuntimeError(FileError(path, message, writing: writing))
}

// Names that methods of the same name would hide.
private func posixWrite(_ descriptor: Int32, _ bytes: UnsafeRawPointer, _ count: Int) -> Int {
    write(descriptor, bytes, count)
}

private func posixRead(_ descriptor: Int32, _ bytes: UnsafeMutableRawPointer?, _ count: Int) -> Int {
    read(descriptor, bytes, count)
}

private func posixRename(_ old: String, _ new: String) -> Int32 { rename(old, new) }
