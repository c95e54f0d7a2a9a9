/// A safetensors file, mapped into memory: opening costs the header, reading a tensor costs its pages.
public final class SafeTensorsFile: Sendable {
    /// Where the file was found.
    public let path: String
    /// The validated header.
    public let header: SafeTensorsHeader
    private let data: SharedBytes
    private let file: MappedFile
    private let dataStart: Int

    /// Opens and validates.
    ///
    /// - Throws: `missing`, `inputOutput`, `wrongFormat` (pickles are never opened), or what the header breaks.
    public init(path: String, limits: SafeTensorsLimits = .file) throws(SafeTensorsError) {
        try refusePickle(path)
        let file = try MappedFile(path: path)
        try ForeignFormat.refuse(weights: file.bytes, path: path)
        let jsonByteCount = try SafeTensorsHeader.jsonByteCount(
            prefix: file.bytes, totalByteCount: file.bytes.count, limits: limits, source: path)
        let begin = SafeTensorsHeader.lengthByteCount + jsonByteCount
        header = try SafeTensorsHeader(
            json: Array(file.bytes[SafeTensorsHeader.lengthByteCount..<begin]),
            dataByteCount: file.bytes.count - begin, limits: limits, source: path)
        data = SharedBytes(unsafe: UnsafeRawBufferPointer(rebasing: file.bytes[begin...]), owner: file)
        self.path = path
        self.file = file
        dataStart = begin
    }

    /// The tensors in the order of their bytes.
    public var entries: [TensorEntry] { header.entries }
    /// The free text entries of the header.
    public var metadata: [String: String] { header.metadata }
    /// The entry of this name, if there is one.
    public subscript(name: String) -> TensorEntry? { header[name] }

    /// A tensor's bytes, not copied; they keep the file mapped.
    ///
    /// - Throws: `missing`, naming the tensors that come closest.
    public func bytes(of name: String) throws(SafeTensorsError) -> SharedBytes {
        data[try entry(name).byteRange]
    }

    /// Calls `body` with a tensor's bytes, not copied, not necessarily aligned.
    ///
    /// - Throws: `missing`, or what `body` throws.
    public func withBytes<Result>(
        of name: String, _ body: (UnsafeRawBufferPointer) throws -> Result
    ) throws -> Result {
        try bytes(of: name).withUnsafeBytes(body)
    }

    /// A floating-point tensor (`F32`, `F16`, `BF16` or `F64`) as float32; all values are finite.
    ///
    /// - Throws: `missing`, `wrongType`, `notFinite`.
    public func floats(of name: String) throws(SafeTensorsError) -> [Float] {
        let values = try uncheckedFloats(of: name)
        let error = values.withUnsafeBytes {
            FiniteValues.error($0, type: .float32, tensor: name, source: path)
        }
        if let error { throw error }
        return values
    }

    /// `floats` that may be NaN or infinite, for tables that say something by them.
    ///
    /// - Throws: `missing`, `wrongType`.
    public func uncheckedFloats(of name: String) throws(SafeTensorsError) -> [Float] {
        let entry = try entry(name)
        return try FloatConversion.floats(data[entry.byteRange], entry: entry, source: path)
    }

    /// A floating-point tensor's bytes, not copied, after all its values were seen to be finite.
    ///
    /// - Throws: `missing`, `notFinite`.
    public func finiteBytes(of name: String) throws(SafeTensorsError) -> SharedBytes {
        let entry = try entry(name)
        let bytes = data[entry.byteRange]
        let error = bytes.withUnsafeBytes {
            FiniteValues.error($0, type: entry.dtype, tensor: name, source: path)
        }
        if let error { throw error }
        // What was looked at is not yet used: a model that stays in its file is in memory once it computes.
        file.release(dataStart + entry.byteRange.lowerBound..<dataStart + entry.byteRange.upperBound)
        return bytes
    }

    private func entry(_ name: String) throws(SafeTensorsError) -> TensorEntry {
        guard let entry = header[name] else {
            throw missingTensor(name, source: path, available: entries.lazy.map(\.name))
        }
        return entry
    }
}

/// The error for a tensor that is not there: it shows what is.
func missingTensor(_ name: String, source: String, available: some Collection<String>) -> SafeTensorsError {
    let ending = name.split(separator: ".").suffix(2).joined(separator: ".")
    let similar = available.filter { $0.hasSuffix(ending) }.prefix(3)
    let shown = similar.isEmpty ? Array(available.prefix(3)) : Array(similar)
    return SafeTensorsError(
        code: .missing, source: source, tensor: name, message: "is not among the \(available.count) tensors",
        remedy: shown.isEmpty ? nil : "there are, for example, " + shown.map(quoted).joined(separator: ", "))
}

/// Pickle files can run code: they are refused by name, before being opened.
func refusePickle(_ path: String) throws(SafeTensorsError) {
    guard isPickle(path) else { return }
    throw SafeTensorsError(
        code: .wrongFormat, source: path,
        message: "is a PyTorch pickle, which can run code when read, and is not opened",
        remedy: "convert it where it is trusted: python3 -c \"import torch, safetensors.torch as s; "
            + "s.save_file(torch.load('\(path)', weights_only=True), 'model.safetensors')\"")
}

/// Whether the name is one PyTorch gives to pickles.
func isPickle(_ path: String) -> Bool {
    [".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"].contains { path.lowercased().hasSuffix($0) }
}
