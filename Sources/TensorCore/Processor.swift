import LibC

/// The processor this process runs on, as the system describes it. Reads Linux's `/proc/cpuinfo`.
public enum Processor {
    /// `AMD EPYC, family 25 model 17, 2 cores, avx2 fma avx512f avx512_bf16`; recorded in snapshots and results.
    public static let description: String = {
        let name = fields["model name"] ?? "unknown processor"
        let family = fields["cpu family"].map { ", family \($0) model \(fields["model"] ?? "?")" } ?? ""
        let found = ["avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16"].filter(features.contains)
        return "\(name)\(family), \(coreCount) cores, \(found.joined(separator: " "))"
    }()

    /// Instruction sets by the system's names.
    public static let features: Set<String> = Set(
        (fields["flags"] ?? fields["Features"] ?? "").split(separator: " ").map(String.init))

    /// Logical processors in use.
    public static var coreCount: Int { max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))) }

    /// The first processor's entries.
    private static let fields: [String: String] = {
        var fields: [String: String] = [:]
        for line in contents(of: "/proc/cpuinfo").split(separator: "\n", omittingEmptySubsequences: false) {
            guard let colon = line.firstIndex(of: ":") else {
                if fields.isEmpty { continue } else { break }
            }
            fields[trimmed(line[..<colon])] = trimmed(line[line.index(after: colon)...])
        }
        return fields
    }()

    private static func trimmed(_ text: Substring) -> String {
        let isSpace: (Character) -> Bool = { $0 == " " || $0 == "\t" }
        var text = text.drop(while: isSpace)
        while let last = text.last, isSpace(last) { text.removeLast() }
        return String(text)
    }

    private static func contents(of path: String) -> String {
        guard let file = fopen(path, "r") else { return "" }
        defer { fclose(file) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while case let count = fread(&chunk, 1, chunk.count, file), count > 0 {
            bytes.append(contentsOf: chunk[..<count])
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
