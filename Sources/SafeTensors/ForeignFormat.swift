import Platform

/// What people have by mistake under the name of a weights file, recognised by its first bytes; data.
struct ForeignFormat {
    let signatures: [[UInt8]]
    /// Where the signature begins.
    let offset: Int
    let message: String
    let remedy: String

    private init(_ signatures: [String], at offset: Int = 0, _ message: String, _ remedy: String) {
        self.init(bytes: signatures.map { Array($0.utf8) }, at: offset, message, remedy)
    }

    private init(bytes: [[UInt8]], at offset: Int = 0, _ message: String, _ remedy: String) {
        signatures = bytes
        self.offset = offset
        self.message = message
        self.remedy = remedy
    }

    private static let convert = "convert it with safetensors.torch.save_file where it is trusted"
    private static let safeTensors = "download the model's .safetensors file"
    private static let logIn = "log in where it came from, accept the model's terms, and download it again"

    /// Binary formats.
    private static let binary = [
        ForeignFormat(
            bytes: [[0x50, 0x4B, 0x03, 0x04], [0x50, 0x4B, 0x05, 0x06]],
            "is a PyTorch archive under a safetensors name, or another zip file", convert),
        ForeignFormat(
            bytes: (2...5).map { [0x80, $0] }, "is a pickle under a safetensors name, which can run code when read",
            convert),
        ForeignFormat(["ustar"], at: 257, "is a tar archive, not a model", "unpack it"),
        ForeignFormat(bytes: [[0x1F, 0x8B]], "is compressed with gzip", "unpack it with gunzip"),
        ForeignFormat(bytes: [[0xFD, 0x37, 0x7A, 0x58, 0x5A, 0x00]], "is compressed with xz", "unpack it with unxz"),
        ForeignFormat(bytes: [[0x28, 0xB5, 0x2F, 0xFD]], "is compressed with zstd", "unpack it with unzstd"),
        ForeignFormat(["BZh"], "is compressed with bzip2", "unpack it with bunzip2"),
        ForeignFormat(bytes: [[0x37, 0x7A, 0xBC, 0xAF, 0x27, 0x1C]], "is a 7z archive", "unpack it"),
        ForeignFormat(["GGUF"], "is a GGUF file, whose tensors are quantised", safeTensors),
        ForeignFormat(
            bytes: [[0x89, 0x48, 0x44, 0x46, 0x0D, 0x0A, 0x1A, 0x0A]], "is an HDF5 file, as Keras writes it",
            safeTensors),
        ForeignFormat(bytes: [[0x93] + Array("NUMPY".utf8)], "is a NumPy array, not a model", safeTensors),
        ForeignFormat(
            bytes: [[0x89, 0x50, 0x4E, 0x47], [0xFF, 0xD8, 0xFF]], "is an image, not a model", safeTensors),
        ForeignFormat(
            bytes: [[UInt8](repeating: 0, count: 8)], "begins with zeros: it was not downloaded to its end",
            "download it again"),
    ]

    /// Texts, by what follows white space and a byte-order mark.
    private static let pointer = ForeignFormat(
        ["version https://git-lfs"], "is a Git LFS pointer, not the file itself",
        "run `git lfs pull` in its repository")
    private static let page = ForeignFormat(["<"], "is a web page, not a model", logIn)
    private static let json = ForeignFormat(
        ["{", "[", "\""], "is JSON text, not a model: a server's message, or a configuration", logIn)
    private static let text = ForeignFormat([""], "is text, not a model: perhaps a server's message", logIn)

    /// Refuses a weights file that is something else.
    ///
    /// - Throws: `wrongFormat`.
    static func refuse(weights bytes: UnsafeRawBufferPointer, path: String) throws(SafeTensorsError) {
        // No header is as long as 2^32, and each begins with a brace: what is neither is not looked at further.
        if bytes.count > 8, bytes[4..<8].allSatisfy({ $0 == 0 }), bytes[8] == UInt8(ascii: "{") { return }
        try refuse(bytes, among: binary, path: path)
        if isText(bytes) { try refuse(trimmed(bytes), among: [pointer, page, json, text], path: path) }
    }

    /// Refuses an index that is something else.
    ///
    /// - Throws: `wrongFormat`.
    static func refuse(index bytes: UnsafeRawBufferPointer, path: String) throws(SafeTensorsError) {
        try refuse(bytes, among: binary, path: path)
        try refuse(trimmed(bytes), among: [pointer, page], path: path)
    }

    private static func refuse(
        _ bytes: UnsafeRawBufferPointer, among formats: [ForeignFormat], path: String
    ) throws(SafeTensorsError) {
        for format in formats
        where format.signatures.contains(where: { bytes.dropFirst(format.offset).starts(with: $0) }) {
            throw SafeTensorsError(
                code: .wrongFormat, source: path, message: format.message, remedy: format.remedy)
        }
    }

    /// Whether a file begins as text does, without control characters.
    private static func isText(_ bytes: UnsafeRawBufferPointer) -> Bool {
        bytes.prefix(512).allSatisfy { $0 >= 0x20 && $0 != 0x7F || (0x09...0x0D).contains($0) }
    }

    private static func trimmed(_ bytes: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        let marked = bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? bytes.dropFirst(3) : bytes[...]
        return UnsafeRawBufferPointer(rebasing: marked.drop { $0 == 0x20 || (0x09...0x0D).contains($0) })
    }
}
