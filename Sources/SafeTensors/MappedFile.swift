#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#else
    import Darwin
#endif

/// A regular file mapped read-only; the pages live as long as the object.
///
/// The file must not be shortened while it is mapped: reading the lost pages would end the process (SIGBUS). Our own files
/// are only ever replaced by rename, which leaves the mapped one intact.
final class MappedFile: @unchecked Sendable {
    // Sendable: the mapping is read-only and unmapped only by deinit.
    let bytes: UnsafeRawBufferPointer

    init(path: String) throws(SafeTensorsError) {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw systemError("cannot be opened", path: path) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw systemError("cannot be read", path: path) }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw SafeTensorsError(code: .inputOutput, source: path, message: "is not a regular file")
        }
        let size = Int(status.st_size)
        guard size > 0 else {
            throw SafeTensorsError(
                code: .wrongFormat, source: path, message: "is empty", remedy: "copy or download it again")
        }
        guard let start = mmap(nil, size, PROT_READ, MAP_PRIVATE, descriptor, 0), start != MAP_FAILED else {
            throw systemError("cannot be mapped", path: path)
        }
        bytes = UnsafeRawBufferPointer(start: start, count: size)
    }

    deinit { munmap(UnsafeMutableRawPointer(mutating: bytes.baseAddress), bytes.count) }
}

/// The error of the system call that just failed.
func systemError(_ what: String, path: String) -> SafeTensorsError {
    let number = errno
    let remedy: String? =
        switch number {
        case ENOENT: "check the path"
        case ENOSPC, EDQUOT: "free space or choose another folder; nothing half-written is left"
        default: nil
        }
    return SafeTensorsError(
        code: number == ENOENT ? .missing : .inputOutput, source: path,
        message: "\(what): \(String(cString: strerror(number)))", remedy: remedy)
}

/// Names in a folder, sorted; nil when `path` is not a folder that can be read.
func folderContents(_ path: String) -> [String]? {
    guard let folder = opendir(path) else { return nil }
    defer { closedir(folder) }
    var names: [String] = []
    while let item = readdir(folder) {
        let name = withUnsafeBytes(of: &item.pointee.d_name) { bytes in
            String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
        if name != ".", name != ".." { names.append(name) }
    }
    return names.sorted()
}
