import Foundation
import NeuralNetworks
import SafeTensors
import Synchronization
import TestSupport
import Testing

@testable import TensorCore

@Suite struct WeightsTests {
    let engine = OpenBLASEngine.shared

    private func parameters() -> Parameters {
        Parameters([
            "a.weight": engine.tensor([1, 2, 3, 4, 5, 6], shape: [2, 3]),
            "a.bias": engine.tensor([0.5, -0.5], shape: [2]),
        ])
    }

    @Test("a layer built from weights computes x Wᵀ + b")
    func linear() throws {
        let weights = Weights(parameters(), source: "test", engine: engine)
        let layer = try Linear(weights.scoped("a"), input: 3, output: 2)
        let taken = try weights.finish()
        // [1 0 -1] · [1 2 3; 4 5 6]ᵀ + [0.5 -0.5] = [-2 -2] + [0.5 -0.5]
        #expect(layer(engine.tensor([1, 0, -1], shape: [1, 3])).values == [-1.5, -2.5])
        #expect(taken.names == ["a.bias", "a.weight"])
    }

    @Test("a tensor of another shape is refused with both shapes")
    func wrongShape() throws {
        let weights = Weights(parameters(), source: "model.safetensors", engine: engine)
        let error = #expect(throws: ModelError.self) { try Linear(weights.scoped("a"), input: 4, output: 2) }
        #expect(error?.code == .wrongShape)
        #expect(error?.description == "model.safetensors: tensor a.weight has shape [2, 3], the model needs [2, 4]")
    }

    @Test("a missing tensor is named, with similar ones")
    func missing() throws {
        let weights = Weights(parameters(), source: "model.safetensors", engine: engine)
        let error = #expect(throws: ModelError.self) { try weights.scoped("b.a").tensor("weight", shape: [2, 3]) }
        #expect(error?.code == .missing)
        #expect(error?.message == "tensor b.a.weight is not among the 2 tensors; there are a.weight")
    }

    @Test("a tensor nobody takes is refused, unless it is left out on purpose")
    func unused() throws {
        let weights = Weights(parameters(), source: "model.safetensors", engine: engine)
        _ = try weights.tensor("a.weight", shape: [2, 3])
        let error = #expect(throws: ModelError.self) { try weights.finish() }
        #expect(error?.code == .unusedTensors)
        #expect(error?.message == "the model has no place for 1 of 2 tensors: a.bias")
        weights.ignore(suffixes: ["bias"])
        #expect(try weights.finish().names == ["a.weight"])
    }

    @Test("a tensor taken twice is refused")
    func usedTwice() throws {
        let weights = Weights(parameters(), source: "model.safetensors", engine: engine)
        _ = try weights.tensor("a.bias", shape: [2])
        let error = #expect(throws: ModelError.self) { try weights.tensor("a.bias", shape: [2]) }
        #expect(error?.code == .usedTwice)
    }

    @Test(
        "F32, F16 and BF16 files load in both precisions",
        arguments: [SafeTensorsDataType.float32, .float16, .bfloat16])
    func storedTypes(stored: SafeTensorsDataType) throws {
        // 1.5, -2 and 0.25 are exact in all three.
        let bytes: SharedBytes =
            switch stored {
            case .float32: SharedBytes(copying: [Float(1.5), -2, 0.25])
            case .float16: SharedBytes(copying: [UInt16(0x3E00), 0xC000, 0x3400])
            default: SharedBytes(copying: [UInt16(0x3FC0), 0xC000, 0x3E80])
            }
        try withTemporaryFolder { folder in
            try SafeTensorsWriter.write(
                [SafeTensor(name: "w", dtype: stored, shape: [3], bytes: bytes)], to: folder + "/model.safetensors")
            for dtype in DType.allCases {
                let weights = try Weights(path: folder, engine: engine, dtype: dtype)
                let tensor = try weights.tensor("w", shape: [3])
                #expect(tensor.dtype == dtype)
                #expect(tensor.values == [1.5, -2, 0.25])
            }
        }
    }

    @Test("values that are not finite and quantised tensors are refused however a model is loaded; tables may hold NaN")
    func refusedValues() throws {
        try withTemporaryFolder { folder in
            for stored in [SafeTensorsDataType.float32, .bfloat16, .float16] {
                var values = [Float](repeating: 1, count: 1 << 15)
                values[77] = .nan
                let bytes =
                    stored == .float32
                    ? SharedBytes(copying: values)
                    : SharedBytes(copying: values.map { $0.isNaN ? UInt16(0x7FC0) : 0x3C00 })
                let path = folder + "/model.safetensors"
                try SafeTensorsWriter.write(
                    [
                        SafeTensor(name: "w", dtype: stored, shape: [values.count], bytes: bytes),
                        SafeTensor(
                            name: "q", dtype: .float8E4M3, shape: [4], bytes: SharedBytes(copying: [UInt8](1...4))),
                    ], to: path)
                for (mappedFrom, dtype) in [(0, DType.float32), (0, .bfloat16), (.max, .float32), (.max, .bfloat16)] {
                    let weights = try Weights(path: folder, engine: engine, dtype: dtype, mappedFrom: mappedFrom)
                    let error = #expect(throws: SafeTensorsError.self) {
                        _ = try weights.tensor("w", shape: [values.count])
                    }
                    #expect(error?.code == .notFinite && error?.source == path && error?.tensor == "w")
                    #expect(try weights.values("w")[77].isNaN)
                    let quantised = #expect(throws: SafeTensorsError.self) { _ = try weights.tensor("q", shape: [8]) }
                    #expect(quantised?.message == "is quantised (F8_E4M3)")
                }
            }
        }
    }

    @Test("two tensors of a file for one of the model are refused, not chosen from")
    func ambiguous() throws {
        try withTemporaryFolder { folder in
            try SafeTensorsWriter.write(
                ["a.w", "b.w"].map { SafeTensor(name: $0, shape: [1], floats: [1]) }, to: folder + "/model.safetensors")
            let error = #expect(throws: ModelError.self) {
                _ = try Weights(path: folder, engine: engine) { String($0.dropFirst(2)) }
            }
            #expect(error?.code == .usedTwice)
        }
    }

    @Test("a mapped model computes what a copied one does and is in memory once: its file's pages, or what they became")
    func mapped() throws {
        let fast = OneDNNEngine.shared
        let side = 2048
        let values = Philox(seed: 1, purpose: .tests).normals(side * side)
        try withTemporaryFolder { folder in
            let path = folder + "/model.safetensors"
            let wide = Parameters([
                "w": fast.tensor(values, shape: [side, side]),
                "b": fast.tensor([Float](values.prefix(side)), shape: [side]),
            ])
            for stored in DType.allCases {
                try wide.converted(to: stored).write(to: path)
                let x = fast.tensor([Float](values.suffix(4 * side)), shape: [4, side], dtype: .float32)
                for dtype in DType.allCases {
                    func layer(_ threshold: Int) throws -> (weight: Tensor, bias: Tensor) {
                        let weights = try Weights(path: path, engine: fast, dtype: dtype, mappedFrom: threshold)
                        return (try weights.tensor("w", shape: [side, side]), try weights.tensor("b", shape: [side]))
                    }
                    let copied = try layer(.max)
                    let resident = fileBytesInMemory()
                    let mapped = try layer(0)
                    #expect(!isMapped(copied.weight) && !isMapped(mapped.bias))
                    #expect(isMapped(mapped.weight) == (stored == dtype))
                    let input = x.converted(to: dtype)
                    #expect(fileBytesInMemory() - resident < 2 << 20, "\(stored) as \(dtype)")
                    func both(_ result: (Tensor) -> Tensor?) throws {
                        let (actual, expected) = (result(mapped.weight), result(copied.weight))
                        // Packed and plain weights may be added up in another order.
                        expectClose(
                            try #require(actual), try #require(expected), relative: dtype == .float32 ? 1e-6 : 1e-2,
                            "\(stored) as \(dtype)")
                    }
                    try both { TensorCore.linear(input, weight: $0, bias: mapped.bias) }
                    #expect(isPacked(copied.weight) && isPacked(mapped.weight) == (stored != dtype))
                    try both { weight in
                        let leaf = input.tracked()
                        return TensorCore.linear(leaf, weight: weight).sum().gradients()[leaf]
                    }
                    #expect(mapped.weight.values == copied.weight.values)
                    // A converted copy beside the pages would be a second one: merging an adapter does this to every weight.
                    guard stored == dtype else { continue }
                    let before = fileBytesInMemory()
                    let other = mapped.weight.converted(to: dtype == .float32 ? .bfloat16 : .float32)
                    #expect(before - fileBytesInMemory() > side * side, "\(other.dtype) from \(stored)")
                    #expect(mapped.weight.values == copied.weight.values)
                }
            }
        }
    }

    private func isMapped(_ tensor: Tensor) -> Bool { (tensor.buffer as? HostBuffer)?.isMapped == true }

    private func isPacked(_ tensor: Tensor) -> Bool {
        (tensor.buffer as? HostBuffer)?.derived.withLock { !$0.isEmpty } == true
    }

    /// Resident pages of files, in bytes.
    private func fileBytesInMemory() -> Int {
        let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
        let line = status.split(separator: "\n").first { $0.hasPrefix("RssFile:") }
        return (line?.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0) << 10
    }

    @Test("renaming maps a file's names to the model's")
    func renaming() throws {
        try withTemporaryFolder { folder in
            try parameters().write(to: folder + "/model.safetensors")
            let weights = try Weights(path: folder, engine: engine) { $0 == "a.bias" ? nil : "encoder." + $0 }
            #expect(weights.contains("encoder.a.weight"))
            _ = try weights.tensor("encoder.a.weight", shape: [2, 3])
            #expect(try weights.finish().names == ["encoder.a.weight"])
        }
    }

    @Test("parameters survive a file, and their canonical form is names and fp32 bytes in order")
    func parametersFile() throws {
        try withTemporaryFolder { folder in
            let path = folder + "/p.safetensors"
            try parameters().write(to: path)
            let read = try Parameters(path: path, engine: engine)
            #expect(read.names == ["a.bias", "a.weight"])
            #expect(read["a.weight"]?.values == [1, 2, 3, 4, 5, 6])
            var canonical: [UInt8] = []
            read.forEachCanonicalPiece { canonical.append(contentsOf: $0) }
            let expected =
                Array("a.bias\0".utf8) + [0, 0, 0, 0x3F, 0, 0, 0, 0xBF] + Array("a.weight\0".utf8)
                + [Float(1), 2, 3, 4, 5, 6].flatMap { withUnsafeBytes(of: $0.bitPattern.littleEndian, Array.init) }
            #expect(canonical == expected)
        }
    }
}
