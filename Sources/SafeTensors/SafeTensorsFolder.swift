import Platform

/// All tensors of a model: one safetensors file, or the shards an `*.safetensors.index.json` lists, as one set of names.
public final class SafeTensorsFolder: Sendable {
    /// The path that was asked for.
    public let path: String
    /// The files, in the order of their names.
    public let files: [SafeTensorsFile]
    /// All tensors, sorted by file, then by position.
    public let entries: [TensorEntry]
    private let owners: [String: Int]

    /// Opens a `.safetensors` file, an index, or a folder that holds one of them.
    ///
    /// In a folder the well-known names win, then their variants (see `WeightsName`); otherwise there must be exactly one index or
    /// one file.
    ///
    /// - Throws: `missing` (also for a shard), `wrongFormat`, `malformedHeader`, `inconsistentTensor`.
    public init(path: String, limits: SafeTensorsLimits = .file) throws(SafeTensorsError) {
        let resolved = try WeightsName.resolve(path)
        var files: [SafeTensorsFile] = []
        var owners: [String: Int] = [:]
        if resolved.hasSuffix(".json") {
            let index = try SafeTensorsIndex(path: resolved)
            for (position, shard) in index.shards.enumerated() {
                files.append(try Self.open(shard: shard, index: index, limits: limits))
                for entry in files[position].entries where index.shardOfTensor[entry.name] == shard {
                    owners[entry.name] = position
                }
            }
            for (name, shard) in index.shardOfTensor.sorted(by: { $0.key < $1.key }) where owners[name] == nil {
                throw SafeTensorsError(
                    code: .missing, source: resolved, tensor: name,
                    message: "is not in \(quoted(shard)), where the index has it",
                    remedy: "download the index and its shards again, from one revision")
            }
        } else {
            let file = try SafeTensorsFile(path: resolved, limits: limits)
            for entry in file.entries { owners[entry.name] = 0 }
            files = [file]
        }
        self.path = path
        self.files = files
        self.owners = owners
        entries = files.enumerated().flatMap { position, file in
            file.entries.filter { owners[$0.name] == position }
        }
    }

    /// The free text entries of all headers; the first file wins where they differ.
    public var metadata: [String: String] {
        files.reduce(into: [:]) { $0.merge($1.metadata) { first, _ in first } }
    }

    /// The entry of this name, if there is one.
    public subscript(name: String) -> TensorEntry? { owners[name].flatMap { files[$0][name] } }

    /// A tensor's bytes, not copied; they keep the file mapped.
    ///
    /// - Throws: `missing`.
    public func bytes(of name: String) throws(SafeTensorsError) -> SharedBytes { try file(of: name).bytes(of: name) }

    /// Calls `body` with a tensor's bytes, not copied, not necessarily aligned.
    ///
    /// - Throws: `missing`, or what `body` throws.
    public func withBytes<Result>(
        of name: String, _ body: (UnsafeRawBufferPointer) throws -> Result
    ) throws -> Result {
        try file(of: name).withBytes(of: name, body)
    }

    /// A floating-point tensor as float32.
    ///
    /// - Throws: `missing`, `wrongType`, `notFinite`.
    public func floats(of name: String) throws(SafeTensorsError) -> [Float] { try file(of: name).floats(of: name) }

    /// `floats` that may be NaN or infinite.
    ///
    /// - Throws: `missing`, `wrongType`.
    public func uncheckedFloats(of name: String) throws(SafeTensorsError) -> [Float] {
        try file(of: name).uncheckedFloats(of: name)
    }

    /// A floating-point tensor's bytes, not copied, after all its values were seen to be finite.
    ///
    /// - Throws: `missing`, `notFinite`.
    public func finiteBytes(of name: String) throws(SafeTensorsError) -> SharedBytes {
        try file(of: name).finiteBytes(of: name)
    }

    /// Makes sure that a tensor's type is one that is read.
    ///
    /// - Throws: `missing`, `wrongType` naming the file.
    public func requireFloat(_ name: String) throws(SafeTensorsError) {
        let file = try file(of: name)
        guard let entry = file[name], !entry.dtype.isFloat else { return }
        throw FloatConversion.wrongType(entry, source: file.path)
    }

    private func file(of name: String) throws(SafeTensorsError) -> SafeTensorsFile {
        guard let position = owners[name] else {
            throw missingTensor(name, source: path, available: entries.lazy.map(\.name))
        }
        return files[position]
    }

    private static func open(
        shard: String, index: SafeTensorsIndex, limits: SafeTensorsLimits
    ) throws(SafeTensorsError) -> SafeTensorsFile {
        do {
            return try SafeTensorsFile(path: index.folder + "/" + shard, limits: limits)
        } catch {
            guard error.code == .missing else { throw error }
            throw SafeTensorsError(
                code: .missing, source: index.path, message: "lists the shard \(quoted(shard)), which is not there",
                remedy: "download the missing shard into \(index.folder)")
        }
    }
}

/// An `*.safetensors.index.json`: which shard holds which tensor.
struct SafeTensorsIndex {
    let path: String
    let folder: String
    let shardOfTensor: [String: String]
    let shards: [String]

    init(path: String) throws(SafeTensorsError) {
        let file = try MappedFile(path: path)
        func malformed(_ message: String) -> SafeTensorsError {
            SafeTensorsError(code: .malformedHeader, source: path, message: message)
        }
        guard file.bytes.count <= SafeTensorsLimits.file.headerByteCount else {
            throw SafeTensorsError(code: .limitExceeded, source: path, message: "is too large for an index")
        }
        try ForeignFormat.refuse(index: file.bytes, path: path)
        let bytes = withoutByteOrderMark(Array(file.bytes))
        guard String(validating: bytes, as: UTF8.self) != nil else { throw malformed("is not valid UTF-8") }
        var weights: [String: String]?
        do throws(JSONScanner.Failure) {
            var scanner = JSONScanner(bytes)
            try scanner.object { (key, scanner) throws(JSONScanner.Failure) in
                guard key == "weight_map" else { return try scanner.skipValue(maximumDepth: 32) }
                guard weights == nil else { throw scanner.failure("\"weight_map\" appears twice") }
                var map: [String: String] = [:]
                try scanner.object { (tensor, scanner) throws(JSONScanner.Failure) in
                    let shard = try scanner.string()
                    guard !shard.isEmpty, !shard.contains("/"), !shard.hasPrefix(".") else {
                        throw scanner.failure("the shard \(quoted(shard)) is not a plain file name")
                    }
                    guard map.updateValue(shard, forKey: tensor) == nil else {
                        throw scanner.failure("tensor \(quoted(tensor)) appears twice")
                    }
                }
                weights = map
            }
            scanner.skipWhitespace()
            guard scanner.isAtEnd else { throw scanner.failure("something follows the index") }
        } catch {
            throw malformed("byte \(error.offset): \(error.message)")
        }
        guard let weights else { throw malformed("has no \"weight_map\"") }
        self.path = path
        folder = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
        shardOfTensor = weights
        shards = Set(weights.values).sorted()
    }
}
