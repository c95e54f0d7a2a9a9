import CKernels
import COneDNN
import LibC
import Synchronization

/// oneDNN's C library: one CPU engine and stream for the process, and the wish that a call uses its own thread only.
enum OneDNN {
    private struct Handles: @unchecked Sendable {
        // `@unchecked Sendable`: made once; oneDNN's CPU engine and stream hold no state that a call changes.
        var engine: dnnl_engine_t
        var stream: dnnl_stream_t
    }
    private static let handles: Handles = {
        var engine: dnnl_engine_t?
        var stream: dnnl_stream_t?
        check(dnnl_engine_create(&engine, dnnl_cpu, 0), "engine")
        check(dnnl_stream_create(&stream, engine, UInt32(dnnl_stream_default_flags.rawValue)), "stream")
        guard let engine, let stream else { preconditionFailure("oneDNN gave no engine") }
        return Handles(engine: engine, stream: stream)
    }()

    static var engine: dnnl_engine_t { handles.engine }
    static var stream: dnnl_stream_t { handles.stream }

    /// Library version and the instruction set its kernels use here.
    static let version: String = {
        guard let version = dnnl_version()?.pointee else { return "oneDNN" }
        return "oneDNN \(version.major).\(version.minor).\(version.patch)"
    }()

    /// Whether products of bfloat16 are computed as such: where the processor has instructions for them that are faster than
    /// those for fp32.
    static let multipliesBFloat16 =
        isAny(of: [dnnl_cpu_isa_avx512_core_amx])
        || isAny(of: [dnnl_cpu_isa_avx512_core_bf16]) && kernel_bf16_dot_pays() != 0

    /// Whether a row of a product has the same bits whatever the number of rows: seen with the AVX-512 kernels, not with the
    /// AVX2 ones, which split the sum by the shape.
    static let rowsAreIndependent = isAny(of: [
        dnnl_cpu_isa_avx512_core, dnnl_cpu_isa_avx512_core_vnni, dnnl_cpu_isa_avx512_core_bf16,
        dnnl_cpu_isa_avx512_core_amx,
    ])

    private static func isAny(of sets: [dnnl_cpu_isa_t]) -> Bool {
        let used = dnnl_get_effective_cpu_isa()
        return sets.contains { $0.rawValue == used.rawValue }
    }

    static func check(_ status: dnnl_status_t, _ operation: @autoclosure () -> String) {
        guard status == dnnl_success else {
            preconditionFailure("oneDNN refused \(operation()): status \(status.rawValue)")
        }
    }

    /// OpenMP keeps the thread count per calling thread, so every entry into the library sets it. Looked up by name:
    /// a oneDNN built without OpenMP needs nothing.
    private static let setThreadCount: (@convention(c) (Int32) -> Void)? = {
        guard let symbol = dlsym(nil, "omp_set_num_threads") else { return nil }
        return unsafeBitCast(symbol, to: (@convention(c) (Int32) -> Void).self)
    }()

    /// To be called before the library makes or runs a primitive.
    static func useOneThread() { setThreadCount?(1) }
}

extension DType {
    var oneDNN: dnnl_data_type_t {
        switch self {
        case .float32: dnnl_f32
        case .bfloat16: dnnl_bf16
        }
    }
}

/// How a tensor lies in memory, in oneDNN's terms.
struct TensorLayout: @unchecked Sendable, Equatable {
    // `@unchecked Sendable`: a plain C value.
    var descriptor = dnnl_memory_desc_t()

    /// Explicit strides in elements.
    init(_ dimensions: [Int], strides: [Int], _ dtype: DType) {
        OneDNN.check(
            dnnl_memory_desc_init_by_strides(
                &descriptor, Int32(dimensions.count), dimensions.map(Int64.init), dtype.oneDNN, strides.map(Int64.init)),
            "layout \(dimensions) \(strides)")
    }

    /// A layout of the library's choice (`dnnl_format_tag_any`) or a named one.
    init(_ dimensions: [Int], tag: dnnl_format_tag_t, _ dtype: DType) {
        OneDNN.check(
            dnnl_memory_desc_init_by_tag(
                &descriptor, Int32(dimensions.count), dimensions.map(Int64.init), dtype.oneDNN, tag),
            "layout \(dimensions) \(tag.rawValue)")
    }

    init(_ descriptor: dnnl_memory_desc_t) { self.descriptor = descriptor }

    var byteCount: Int {
        var descriptor = descriptor
        return dnnl_memory_desc_get_size(&descriptor)
    }

    static func == (a: TensorLayout, b: TensorLayout) -> Bool {
        var (first, second) = (a.descriptor, b.descriptor)
        return dnnl_memory_desc_equal(&first, &second) != 0
    }

    /// A name that two layouts share only when they order elements alike.
    func name(_ dtype: DType) -> String {
        if descriptor.format_kind == dnnl_format_kind_wino { return "\(dtype) \(descriptor.format_desc.wino_desc)" }
        let blocking = descriptor.format_desc.blocking
        let blocks = Int(blocking.inner_nblks)
        func first<Dimensions>(_ count: Int, of dimensions: Dimensions) -> [Int64] {
            withUnsafeBytes(of: dimensions) { Array($0.bindMemory(to: Int64.self).prefix(count)) }
        }
        let strides = first(Int(descriptor.ndims), of: blocking.strides)
        return "\(dtype) \(strides) \(first(blocks, of: blocking.inner_blks)) \(first(blocks, of: blocking.inner_idxs))"
    }
}

/// What an operation reads and writes and which memory it needs besides; known before it is compiled.
struct PrimitiveMemory: Sendable {
    /// Layout of each argument by its DNNL_ARG number.
    private(set) var layouts: [Int32: TensorLayout] = [:]
    /// Stands for the layout of the weights; a packed copy is kept under it.
    let weightsLayout: Int
    /// Scratch memory of a call.
    let scratchpad: TensorLayout
    let scratchByteCount: Int
    /// What of it is taken from the pool for every call; a small scratch memory belongs to the compiled operation instead.
    var pooledScratchByteCount: Int { scratchByteCount > 1 << 16 ? scratchByteCount : 0 }

    fileprivate init(_ description: dnnl_primitive_desc_t?, _ order: PrimitiveOrder) {
        for (argument, query) in order.arguments {
            guard let layout = dnnl_primitive_desc_query_md(description, query, 0) else { continue }
            layouts[argument] = TensorLayout(layout.pointee)
        }
        layouts[DNNL_ARG_BIAS] = order.bias
        layouts[PrimitiveOrder.baseArgument] = order.base
        weightsLayout = Self.number(layouts[DNNL_ARG_WEIGHTS]?.name(order.operands) ?? "")
        scratchpad =
            dnnl_primitive_desc_query_md(description, dnnl_query_scratchpad_md, 0)
            .map { TensorLayout($0.pointee) } ?? TensorLayout([1], strides: [1], .float32)
        scratchByteCount = scratchpad.byteCount
    }

    private static let numbers = Mutex<[String: Int]>([:])

    /// Stands for a name in this process: it is looked up with every call.
    private static func number(_ name: String) -> Int {
        numbers.withLock { numbers in
            if let known = numbers[name] { return known }
            numbers[name] = numbers.count
            return numbers.count - 1
        }
    }

    /// Bytes of a copy of an argument whose layout is not `layout`; nil where it is.
    func byteCount(unless layout: TensorLayout, is argument: Int32) -> Int? {
        guard let wanted = layouts[argument], wanted != layout else { return nil }
        return wanted.byteCount
    }
}

/// An operation as the library is asked for it: its descriptor, valid during the call that it is given to, the DNNL_ARG
/// numbers whose layouts the library may choose and how to ask for them.
struct PrimitiveOrder {
    let operation: UnsafeRawPointer
    let operands: DType
    let arguments: [(Int32, dnnl_query_t)]
    var bias: TensorLayout?
    /// Of what is added to the result, which has the same layout.
    var base: TensorLayout?

    /// The argument that `base` describes: the operand of the first operation after the main one.
    static let baseArgument = DNNL_ARG_ATTR_MULTIPLE_POST_OP_BASE | DNNL_ARG_SRC_1

    /// Has the library choose an implementation; nil where it has none.
    fileprivate func withDescription<Result>(_ body: (dnnl_primitive_desc_t?, PrimitiveMemory) -> Result) -> Result? {
        OneDNN.useOneThread()
        var attributes: dnnl_primitive_attr_t?
        OneDNN.check(dnnl_primitive_attr_create(&attributes), "attributes")
        defer { dnnl_primitive_attr_destroy(attributes) }
        OneDNN.check(dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user), "scratchpad mode")
        if var base = base?.descriptor {
            var operations: dnnl_post_ops_t?
            OneDNN.check(dnnl_post_ops_create(&operations), "post-operations")
            defer { dnnl_post_ops_destroy(operations) }
            OneDNN.check(dnnl_post_ops_append_binary(operations, dnnl_binary_add, &base), "addition")
            OneDNN.check(dnnl_primitive_attr_set_post_ops(attributes, operations), "post-operations")
        }
        var description: dnnl_primitive_desc_t?
        guard dnnl_primitive_desc_create(&description, operation, attributes, OneDNN.engine, nil) == dnnl_success
        else { return nil }
        defer { dnnl_primitive_desc_destroy(description) }
        return body(description, PrimitiveMemory(description, self))
    }

    /// The memory of the operation, which is not compiled; nil where the library has no implementation.
    var memory: PrimitiveMemory? { withDescription { $1 } }
}

/// A compiled operation. Safe to run on many threads at once: its scratch memory and memory objects belong to one call at a time.
final class Primitive: @unchecked Sendable {
    // `@unchecked Sendable`: immutable after `init` but for `idle`, which has a lock; dnnl_primitive_execute is thread-safe with
    // user scratchpads.
    private let handle: dnnl_primitive_t
    /// Layouts and scratch memory.
    let memory: PrimitiveMemory
    /// What the library calls its implementation.
    let implementation: String
    /// Memory objects of earlier calls, for the next ones: always of the same arguments in the same order.
    private let idle = Mutex<[MemoryObjects]>([])

    private struct MemoryObjects: @unchecked Sendable {
        // `@unchecked Sendable`: in the hands of one call at a time.
        var list: [dnnl_exec_arg_t]
        /// A small scratch memory of their own, to which the last of them points.
        var scratch: UnsafeMutableRawPointer?

        func free() {
            for entry in list { dnnl_memory_destroy(entry.memory) }
            scratch?.deallocate()
        }
    }

    /// Layout of each argument by its DNNL_ARG number.
    var layouts: [Int32: TensorLayout] { memory.layouts }

    /// Compiles an operation, or returns nil where the library has no implementation.
    init?(_ order: PrimitiveOrder) {
        let made = order.withDescription { description, memory in
            var primitive: dnnl_primitive_t?
            OneDNN.check(dnnl_primitive_create(&primitive, description), "primitive")
            var text: UnsafePointer<CChar>?
            dnnl_primitive_desc_query(description, dnnl_query_impl_info_str, 0, &text)
            return (primitive, memory, text.map { String(cString: $0) } ?? "")
        }
        guard let made, let primitive = made.0 else { return nil }
        (handle, memory, implementation) = (primitive, made.1, made.2)
    }

    deinit {
        for objects in idle.withLock({ $0 }) { objects.free() }
        dnnl_primitive_destroy(handle)
    }

    /// Runs on the calling thread; an argument that is nil is not given.
    func callAsFunction(_ arguments: (Int32, UnsafeMutableRawPointer?)...) {
        OneDNN.useOneThread()
        let objects = idle.withLock { $0.popLast() } ?? described(arguments.compactMap { $1 == nil ? nil : $0 })
        let list = objects.list
        let scratch = memory.pooledScratchByteCount > 0 ? HostBuffer(byteCount: memory.pooledScratchByteCount) : nil
        withExtendedLifetime(scratch) {
            var position = 0
            for case (_, let pointer?) in arguments {
                OneDNN.check(dnnl_memory_set_data_handle(list[position].memory, pointer), "memory")
                position += 1
            }
            if let scratch {
                OneDNN.check(dnnl_memory_set_data_handle(list[position].memory, scratch.pointer), "memory")
            }
            OneDNN.check(dnnl_primitive_execute(handle, OneDNN.stream, Int32(list.count), list), implementation)
        }
        idle.withLock { $0.append(objects) }
    }

    /// Memory objects for the arguments of a call, which point nowhere yet, but for a small scratch memory.
    private func described(_ arguments: [Int32]) -> MemoryObjects {
        let byteCount = memory.scratchByteCount
        let isKept = byteCount > 0 && memory.pooledScratchByteCount == 0
        let scratch = isKept ? UnsafeMutableRawPointer.allocate(byteCount: byteCount, alignment: 64) : nil
        let declared = arguments.map { argument in
            guard let layout = layouts[argument] else {
                preconditionFailure("oneDNN: argument \(argument) was not declared")
            }
            return (argument, layout)
        }
        var list = declared.map { dnnl_exec_arg_t(arg: $0, memory: Primitive.handle($1, nil)) }
        if byteCount > 0 {
            list.append(
                dnnl_exec_arg_t(
                    arg: DNNL_ARG_SCRATCHPAD, memory: Primitive.handle(memory.scratchpad, scratch)))
        }
        return MemoryObjects(list: list, scratch: scratch)
    }

    private static func handle(_ layout: TensorLayout, _ pointer: UnsafeMutableRawPointer?) -> dnnl_memory_t? {
        var memory: dnnl_memory_t?
        var descriptor = layout.descriptor
        OneDNN.check(dnnl_memory_create(&memory, &descriptor, OneDNN.engine, pointer), "memory")
        return memory
    }

    /// Memory for an argument whose layout is not `layout`; nil where it is.
    func buffer(unless layout: TensorLayout, is argument: Int32) -> HostBuffer? {
        memory.byteCount(unless: layout, is: argument).map { HostBuffer(byteCount: $0) }
    }

    /// Copies an argument that lies in `layout` to a `buffer(unless:is:)` of it, if there is one.
    func convert(
        _ source: UnsafeMutableRawPointer, _ layout: TensorLayout, to buffer: HostBuffer?, of argument: Int32
    ) {
        guard let buffer, let wanted = layouts[argument] else { return }
        Primitive.reorder(source, layout, buffer.pointer, wanted)
    }

    /// Copies a `buffer(unless:is:)` of an argument, if there is one, to where it shall lie in `layout`.
    func convert(
        _ buffer: HostBuffer?, of argument: Int32, to target: UnsafeMutableRawPointer, _ layout: TensorLayout
    ) {
        guard let buffer, let given = layouts[argument] else { return }
        Primitive.reorder(buffer.pointer, given, target, layout)
    }

    /// Copies between layouts (and precisions).
    static func reorder(
        _ source: UnsafeMutableRawPointer, _ from: TensorLayout, _ target: UnsafeMutableRawPointer, _ to: TensorLayout
    ) {
        OneDNN.useOneThread()
        var (first, second) = (from.descriptor, to.descriptor)
        var description: dnnl_primitive_desc_t?
        OneDNN.check(
            dnnl_reorder_primitive_desc_create(&description, &first, OneDNN.engine, &second, OneDNN.engine, nil),
            "reorder")
        defer { dnnl_primitive_desc_destroy(description) }
        var primitive: dnnl_primitive_t?
        OneDNN.check(dnnl_primitive_create(&primitive, description), "reorder")
        defer { dnnl_primitive_destroy(primitive) }
        let list = [
            dnnl_exec_arg_t(arg: DNNL_ARG_SRC, memory: handle(from, source)),
            dnnl_exec_arg_t(arg: DNNL_ARG_DST, memory: handle(to, target)),
        ]
        OneDNN.check(dnnl_primitive_execute(primitive, OneDNN.stream, 2, list), "reorder")
        for entry in list { dnnl_memory_destroy(entry.memory) }
    }
}

/// Compiled operations by key, shared by all threads. An operation is compiled once; the bound only guards against callers
/// whose shapes never repeat.
final class PrimitiveCache<Key: Hashable & Sendable>: Sendable {
    private let entries = Mutex<[Key: Primitive]>([:])
    private let bound = 4096

    /// The operation of this key, compiled by `make` when it is new.
    func primitive(_ key: Key, _ make: () -> Primitive) -> Primitive {
        if let known = entries.withLock({ $0[key] }) { return known }
        let made = make()
        return entries.withLock { entries in
            if let known = entries[key] { return known }
            if entries.count >= bound { entries.removeAll() }
            entries[key] = made
            return made
        }
    }
}
