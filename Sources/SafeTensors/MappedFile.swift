import LibC
import Platform

/// A regular file mapped read-only; the pages live as long as the object.
///
/// The file must not be shortened while it is mapped: reading the lost pages would end the process (SIGBUS). Our own files
/// are only ever replaced by rename, which leaves the mapped one intact.
final class MappedFile: @unchecked Sendable {
    // Sendable: the mapping is read-only and unmapped only by deinit.
    let bytes: UnsafeRawBufferPointer

    init(path: String) throws(SafeTensorsError) {
        let file = try File<SafeTensorsError>(path, .read)
        let size = try file.byteCount()
        guard size > 0 else {
            throw SafeTensorsError(
                code: .wrongFormat, source: path, message: "is empty", remedy: "copy or download it again")
        }
        guard let start = mmap(nil, size, PROT_READ, MAP_PRIVATE, file.descriptor, 0), start != MAP_FAILED else {
            throw SafeTensorsError(FileError(path, "cannot be mapped", writing: false))
        }
        bytes = UnsafeRawBufferPointer(start: start, count: size)
    }

    /// Takes the whole pages of a range out of this process's memory; they are read again, from the system's cache, when they are
    /// needed.
    func release(_ range: Range<Int>) {
        let page = Int(sysconf(Int32(_SC_PAGESIZE)))
        let (begin, end) = ((range.lowerBound + page - 1) / page * page, range.upperBound / page * page)
        guard begin < end, let start = bytes.baseAddress else { return }
        madvise(UnsafeMutableRawPointer(mutating: start + begin), end - begin, MADV_DONTNEED)
    }

    deinit { munmap(UnsafeMutableRawPointer(mutating: bytes.baseAddress), bytes.count) }
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
