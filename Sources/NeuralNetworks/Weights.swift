public import SafeTensors
public import TensorCore

/// Where a model under construction takes its tensors from: construction is loading.
///
/// Each layer asks for a name and a shape below its scope. Every tensor is used exactly once, and `finish` refuses
/// what nobody asked for, so that a model that was built is the model of the file.
///
///     let weights = try Weights(path: "vae", engine: engine, dtype: .float32)
///     let convolution = try Convolution(weights.scoped("decoder.conv_in"), input: 16, output: 64, kernel: 3)
///     try weights.finish()
public struct Weights {
    /// Engine of the tensors.
    public let engine: any Engine
    /// Precision of the tensors.
    public let dtype: DType
    /// Path from the root, without a final dot; empty at the root.
    public let scope: String
    private let store: WeightStore

    /// Models of this many bytes stay in their files, mapped, and are not copied: 1 GiB. Smaller ones are copied, which costs
    /// little and makes them independent of what happens to the file.
    public static let mappedByteCount = 1 << 30

    /// The tensors of a safetensors file, of a sharded model, or of a folder with one.
    ///
    /// A mapped file must not be written to while the model lives: that would change its weights or, where the file gets
    /// shorter, end the process. Replacing it by rename is fine.
    ///
    /// - Parameters:
    ///   - path: of the file or folder.
    ///   - engine: what computes.
    ///   - dtype: what matrices are converted to.
    ///   - mappedFrom: bytes of all tensors from which on they stay in the file.
    ///   - rename: name in the file -> name in the model; nil leaves the tensor out on purpose.
    /// - Throws: `SafeTensorsError`; `usedTwice` when two tensors of the file have one name in the model.
    public init(
        path: String, engine: any Engine, dtype: DType = .float32, mappedFrom: Int = Weights.mappedByteCount,
        rename: (String) -> String? = { $0 }
    ) throws {
        try self.init(
            SafeTensorsFolder(path: path), engine: engine, dtype: dtype, mappedFrom: mappedFrom, rename: rename)
    }

    /// The tensors of files that are open.
    ///
    /// - Throws: `usedTwice` when two tensors of the files have one name in the model.
    public init(
        _ folder: SafeTensorsFolder, engine: any Engine, dtype: DType, mappedFrom: Int = Weights.mappedByteCount,
        rename: (String) -> String?
    ) throws {
        var names: [String: StoredTensor] = [:]
        for entry in folder.entries {
            guard let name = rename(entry.name) else { continue }
            if let other = names.updateValue(StoredTensor(entry), forKey: name) {
                throw ModelError(
                    code: .usedTwice, source: folder.path,
                    message: "tensors \(other.name) and \(entry.name) are the same one of the model, \(name)")
            }
        }
        self.init(folder, tensors: names, engine: engine, dtype: dtype, mappedFrom: mappedFrom)
    }

    /// Tensors of files that are open, parts of them or made of them.
    ///
    /// - Parameters:
    ///   - folder: the files.
    ///   - names: by the model's name.
    ///   - engine: what computes.
    ///   - dtype: what matrices are converted to.
    ///   - mappedFrom: bytes of all tensors from which on they stay in the file.
    public init(
        _ folder: SafeTensorsFolder, tensors names: [String: StoredTensor], engine: any Engine, dtype: DType,
        mappedFrom: Int = Weights.mappedByteCount
    ) {
        let isMapped = folder.entries.reduce(0) { $0 + $1.byteRange.count } >= mappedFrom
        self.init(
            engine: engine, dtype: dtype, scope: "",
            store: WeightStore(folder: folder, names: names, isMapped: isMapped))
    }

    /// Tensors that exist already; tracked ones keep their history, also through a change of precision.
    public init(_ parameters: Parameters, source: String, engine: any Engine, dtype: DType = .float32) {
        self.init(engine: engine, dtype: dtype, scope: "", store: WeightStore(parameters: parameters, source: source))
    }

    private init(engine: any Engine, dtype: DType, scope: String, store: WeightStore) {
        self.engine = engine
        self.dtype = dtype
        self.scope = scope
        self.store = store
    }

    /// The tensors below a name.
    public func scoped(_ name: String) -> Weights {
        Weights(engine: engine, dtype: dtype, scope: path(name), store: store)
    }

    /// The same tensors in another precision.
    public func inPrecision(_ dtype: DType) -> Weights {
        Weights(engine: engine, dtype: dtype, scope: scope, store: store)
    }

    /// Whether large tensors stay in the file, so that a model of them had better not make others.
    public var isMapped: Bool { store.isMapped }

    /// Path of the file or folder, for errors.
    public var source: String { store.source }

    /// The full name of a tensor of this scope.
    public func path(_ name: String) -> String { scope.isEmpty ? name : scope + "." + name }

    /// Whether there is such a tensor.
    public func contains(_ name: String) -> Bool { store.shape(path(name)) != nil }

    /// The shape of a tensor, which a model may follow where its configuration is silent.
    ///
    /// - Throws: `missing`.
    public func shape(of name: String) throws -> [Int] {
        guard let shape = store.shape(path(name)) else { throw store.missing(path(name)) }
        return shape
    }

    /// The tensor of this name, in the model's precision.
    ///
    /// - Throws: `missing`, `wrongShape`, `usedTwice`, or what reading throws.
    public func tensor(_ name: String, shape: [Int]) throws -> Tensor {
        let name = path(name)
        guard let actual = store.shape(name) else { throw store.missing(name) }
        try store.requireFloat(name)
        guard actual == shape else {
            throw ModelError(
                code: .wrongShape, source: store.source,
                message: "tensor \(name) has shape \(actual), the model needs \(shape)")
        }
        return try store.take(name, engine: engine, dtype: dtype)
    }

    /// The values of a tensor that says something about others and is none of the model's own; NaN and infinities are its matter.
    ///
    /// - Throws: `missing`, or what reading throws.
    public func values(_ name: String) throws -> [Float] { try store.values(path(name)) }

    /// Leaves out tensors on purpose: those that are there and whose name ends so.
    public func ignore(suffixes: [String]) {
        store.ignore { name in suffixes.contains { name == $0 || name.hasSuffix("." + $0) } }
    }

    /// Leaves out all tensors below a scope on purpose, the encoder of an autoencoder that only decodes for example.
    public func ignore(scope: String) {
        let prefix = path(scope) + "."
        store.ignore { $0.hasPrefix(prefix) }
    }

    /// Ends construction.
    ///
    /// - Returns: all tensors the model took, by full name.
    /// - Throws: `unusedTensors`.
    @discardableResult
    public func finish() throws -> Parameters { try store.finish() }
}

/// The tensors of one file or dictionary and which of them were taken. Not Sendable: a model is built on one thread.
private final class WeightStore {
    let source: String
    private let folder: SafeTensorsFolder?
    private let names: [String: StoredTensor]
    let isMapped: Bool
    private let parameters: Parameters
    private var taken: [String: Tensor] = [:]
    private var ignored: Set<String> = []

    init(folder: SafeTensorsFolder, names: [String: StoredTensor], isMapped: Bool) {
        source = folder.path
        self.isMapped = isMapped
        self.folder = folder
        self.names = names
        parameters = Parameters()
    }

    init(parameters: Parameters, source: String) {
        self.source = source
        isMapped = false
        folder = nil
        names = parameters.entries.reduce(into: [:]) { $0[$1.name] = StoredTensor($1.name, shape: $1.tensor.shape) }
        self.parameters = parameters
    }

    func shape(_ name: String) -> [Int]? { names[name]?.shape }

    /// Quantised tensors often have another shape, too: their type is told first.
    func requireFloat(_ name: String) throws {
        if let stored = names[name], stored.isStored { try folder?.requireFloat(stored.name) }
    }

    func values(_ name: String) throws -> [Float] {
        guard let stored = names[name] else { throw missing(name) }
        ignored.insert(name)
        return try folder?.uncheckedFloats(of: stored.name) ?? parameters[stored.name]?.values ?? []
    }

    func take(_ name: String, engine: any Engine, dtype: DType) throws -> Tensor {
        guard taken[name] == nil else {
            throw ModelError(code: .usedTwice, source: source, message: "tensor \(name) is used by two layers")
        }
        let tensor = try read(name, engine: engine, dtype: dtype)
        taken[name] = tensor
        return tensor
    }

    private func read(_ name: String, engine: any Engine, dtype: DType) throws -> Tensor {
        guard let stored = names[name] else { throw missing(name) }
        guard let folder else {
            guard let tensor = parameters[stored.name] else { throw missing(name) }
            return tensor.converted(to: dtype)
        }
        guard let entry = folder[stored.name] else {
            return engine.tensor(stored.identity, shape: stored.shape, dtype: dtype)
        }
        let storedType: DType? =
            switch entry.dtype {
            case .float32: .float32
            case .bfloat16: .bfloat16
            default: nil
            }
        if isMapped, let storedType, let range = stored.contiguous {
            let whole = try folder.finiteBytes(of: stored.name)
            let (bytes, owner) = whole[stored.bytes(range, of: whole.count)].retained
            // A file may be packed so that its elements straddle words; such a tensor is copied, as are small ones, which share pages.
            let isAligned = Int(bitPattern: bytes.baseAddress) % storedType.byteCount == 0
            if let owner, isAligned, bytes.count >= smallestMappedByteCount {
                return engine.tensor(mapped: bytes, owner: owner, shape: stored.shape, dtype: storedType).converted(
                    to: dtype)
            }
        }
        if storedType == dtype, let range = stored.contiguous {
            let whole = try folder.finiteBytes(of: stored.name)
            return whole[stored.bytes(range, of: whole.count)].withUnsafeBytes {
                engine.tensor(bytes: $0, shape: stored.shape, dtype: dtype)
            }
        }
        let floats = try folder.floats(of: stored.name)
        let parts = stored.ranges.map { floats[stored.bytes($0, of: floats.count)] }
        return engine.tensor(
            parts.count == 1 ? Array(parts[0]) : parts.flatMap { $0 }, shape: stored.shape, dtype: dtype)
    }

    func ignore(where isIgnored: (String) -> Bool) { ignored.formUnion(names.keys.filter(isIgnored)) }

    func finish() throws -> Parameters {
        let unused = names.keys.filter { taken[$0] == nil && !ignored.contains($0) }.sorted()
        guard unused.isEmpty else {
            let shown = unused.prefix(5).joined(separator: ", ") + (unused.count > 5 ? ", ..." : "")
            throw ModelError(
                code: .unusedTensors, source: source,
                message: "the model has no place for \(unused.count) of \(names.count) tensors: \(shown)")
        }
        return Parameters(taken)
    }

    func missing(_ name: String) -> ModelError {
        let ending = name.split(separator: ".").suffix(2).joined(separator: ".")
        let similar = names.keys.filter { $0.hasSuffix(ending) }.sorted().prefix(3)
        let hint = similar.isEmpty ? "" : "; there are " + similar.joined(separator: ", ")
        return ModelError(
            code: .missing, source: source, message: "tensor \(name) is not among the \(names.count) tensors\(hint)")
    }
}

/// 16 pages.
private let smallestMappedByteCount = 1 << 16
