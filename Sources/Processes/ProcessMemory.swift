internal import LibC
internal import Platform

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

    /// Most resident bytes so far, or 0 where the system does not say.
    public static var peakResidentByteCount: Int {
        guard let bytes = try? FileStore.read("/proc/self/status") else { return 0 }
        // "VmHWM:    123456 kB"
        let line = String(decoding: bytes, as: UTF8.self).split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
        let fields = line?.split { $0 == " " || $0 == "\t" } ?? []
        return fields.count > 1 ? (Int(fields[1]) ?? 0) << 10 : 0
    }
}
