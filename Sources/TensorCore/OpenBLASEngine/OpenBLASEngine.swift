import COpenBLAS

/// The plain engine: OpenBLAS for products, readable loops over arrays for the rest.
///
/// Every other engine is held to this one, so nothing here is clever: operands are read out as fp32, the formula is
/// written down, the result is rounded to its dtype. It runs wherever OpenBLAS does.
public final class OpenBLASEngine: Engine {
    /// The engine; it has no state.
    public static let shared = OpenBLASEngine()

    public var name: String { EngineKind.openBLAS.rawValue }
    public let kernel: String

    private init() {
        openblas_set_num_threads(1)
        kernel = "\(String(cString: openblas_get_config())), \(String(cString: openblas_get_corename()))"
    }

    // MARK: Memory

    public func tensor(_ values: [Float], shape: [Int], dtype: DType) -> Tensor {
        precondition(values.count == shape.reduce(1, *), "tensor: \(values.count) values for shape \(shape)")
        return HostTensors.make(values, shape: shape, dtype: dtype, engine: self)
    }

    public func tensor(bytes: UnsafeRawBufferPointer, shape: [Int], dtype: DType) -> Tensor {
        HostTensors.make(bytes: bytes, shape: shape, dtype: dtype, engine: self)
    }

    public func tensor(
        mapped bytes: UnsafeRawBufferPointer, owner: any AnyObject & Sendable, shape: [Int], dtype: DType
    ) -> Tensor {
        HostTensors.map(bytes, owner: owner, shape: shape, dtype: dtype, engine: self)
    }

    public func values(of x: Tensor) -> [Float] { HostTensors.values(of: x) }

    public func bytes(of x: Tensor) -> [UInt8] { HostTensors.bytes(of: x) }

    public func convert(_ x: Tensor, to dtype: DType) -> Tensor { tensor(x.values, shape: x.shape, dtype: dtype) }

    /// A result in the dtype of `like`.
    func result(_ values: [Float], _ shape: [Int], like: Tensor) -> Tensor {
        HostTensors.make(values, shape: shape, dtype: like.dtype, engine: self)
    }

    /// An fp32 result.
    func result(_ values: [Float], _ shape: [Int]) -> Tensor {
        HostTensors.make(values, shape: shape, dtype: .float32, engine: self)
    }
}

/// Values in and out of host memory, shared by the engines that live there.
enum HostTensors {
    static func pointer(_ x: Tensor) -> UnsafeMutableRawPointer {
        guard let buffer = x.buffer as? HostBuffer else {
            preconditionFailure("a tensor of engine \(x.engine.name) is not in host memory")
        }
        return buffer.pointer + x.offset * x.dtype.byteCount
    }

    static func make(_ values: [Float], shape: [Int], dtype: DType, engine: any Engine) -> Tensor {
        let buffer = HostBuffer(byteCount: values.count * dtype.byteCount)
        switch dtype {
        case .float32:
            values.withUnsafeBytes {
                buffer.pointer.copyMemory(from: $0.baseAddress ?? UnsafeRawPointer(buffer.pointer), byteCount: $0.count)
            }
        case .bfloat16:
            let target = buffer.pointer.bindMemory(to: UInt16.self, capacity: values.count)
            for index in values.indices { target[index] = BFloat16(values[index]).bitPattern }
        }
        return Tensor(engine: engine, buffer: buffer, shape: shape, dtype: dtype)
    }

    static func make(bytes: UnsafeRawBufferPointer, shape: [Int], dtype: DType, engine: any Engine) -> Tensor {
        precondition(
            bytes.count == shape.reduce(1, *) * dtype.byteCount, "tensor: \(bytes.count) bytes for \(shape) \(dtype)")
        let buffer = HostBuffer(byteCount: bytes.count)
        if let source = bytes.baseAddress { buffer.pointer.copyMemory(from: source, byteCount: bytes.count) }
        return Tensor(engine: engine, buffer: buffer, shape: shape, dtype: dtype)
    }

    static func map(
        _ bytes: UnsafeRawBufferPointer, owner: any AnyObject & Sendable, shape: [Int], dtype: DType,
        engine: any Engine
    ) -> Tensor {
        precondition(
            bytes.count == shape.reduce(1, *) * dtype.byteCount
                && Int(bitPattern: bytes.baseAddress) % dtype.byteCount == 0,
            "tensor: \(bytes.count) mapped bytes at \(Int(bitPattern: bytes.baseAddress)) for \(shape) \(dtype)")
        return Tensor(
            engine: engine, buffer: HostBuffer(mapping: bytes, owner: owner), shape: shape, dtype: dtype)
    }

    static func values(of x: Tensor) -> [Float] {
        let (source, count) = (pointer(x), x.count)
        return [Float](unsafeUninitializedCapacity: count) { target, initialized in
            switch x.dtype {
            case .float32:
                if count > 0 {
                    UnsafeMutableRawPointer(target.baseAddress!).copyMemory(from: source, byteCount: 4 * count)
                }
            case .bfloat16:
                let bits = source.assumingMemoryBound(to: UInt16.self)
                for index in 0..<count { target[index] = BFloat16(bitPattern: bits[index]).float }
            }
            initialized = count
        }
    }

    static func bytes(of x: Tensor) -> [UInt8] {
        Array(UnsafeRawBufferPointer(start: pointer(x), count: x.count * x.dtype.byteCount))
    }
}

extension EngineKind {
    /// OpenBLAS's row.
    public static let openBLAS = EngineKind("openblas", "the reference to which the others are held") {
        OpenBLASEngine.shared
    }
}
