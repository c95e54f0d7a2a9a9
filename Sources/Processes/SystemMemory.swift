internal import Foundation
internal import Platform

/// Memory of this machine, or of the container that this process runs in.
public struct SystemMemory: Sendable, Codable, Equatable {
    /// Bytes that processes can have at most.
    public var totalBytes: Int
    /// Bytes that a new process could have without others giving way.
    public var availableBytes: Int

    public init(totalBytes: Int, availableBytes: Int) {
        self.totalBytes = totalBytes
        self.availableBytes = availableBytes
    }

    /// As the system says now: `/proc/meminfo`, within the limit of the control group where it has one.
    public static var current: SystemMemory {
        let physical = Int(clamping: ProcessInfo.processInfo.physicalMemory)
        let fields = Self.meminfo
        let total = fields["MemTotal"] ?? physical
        let available = fields["MemAvailable"] ?? total
        // cgroup version 2, then 1; "max" and absurdly large numbers set no limit.
        for (limit, usage) in [
            ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
        ] {
            guard let limit = number(in: limit), limit < total else { continue }
            return SystemMemory(
                totalBytes: limit, availableBytes: min(available, max(0, limit - (number(in: usage) ?? 0))))
        }
        return SystemMemory(totalBytes: total, availableBytes: available)
    }

    /// "MemTotal:       24597336 kB"
    private static var meminfo: [String: Int] {
        guard let bytes = try? FileStore.read("/proc/meminfo") else { return [:] }
        var fields: [String: Int] = [:]
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
            let words = line.split(whereSeparator: { $0 == " " || $0 == ":" })
            if words.count > 1, let kilobytes = Int(words[1]) { fields[String(words[0])] = kilobytes << 10 }
        }
        return fields
    }

    private static func number(in path: String) -> Int? {
        guard let bytes = try? FileStore.read(path) else { return nil }
        return Int(String(decoding: bytes, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines))
    }
}
