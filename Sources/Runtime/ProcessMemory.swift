#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#else
    internal import Darwin
#endif

/// Memory of this process.
public enum ProcessMemory {
    /// Resident bytes, or 0 where the system does not say.
    public static var residentByteCount: Int {
        // /proc/self/statm: total and resident pages first.
        guard let bytes = try? FileStore.read("/proc/self/statm") else { return 0 }
        let fields = String(decoding: bytes, as: UTF8.self).split(separator: " ")
        guard fields.count > 1, let pages = Int(fields[1]) else { return 0 }
        return pages * sysconf(Int32(_SC_PAGESIZE))
    }
}
