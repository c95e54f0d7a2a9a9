import Foundation
import SafeTensors
import TestSupport
import Testing

/// Values that no model has, wherever they are in a file and whatever type holds them.
@Suite struct FiniteTests {
    private func write(_ type: SafeTensorsDataType, _ bytes: SharedBytes, _ folder: String) throws -> SafeTensorsFile {
        let count = bytes.count * 8 / type.bitCount
        try SafeTensorsWriter.write(
            [SafeTensor(name: "w", dtype: type, shape: [count], bytes: bytes)], to: folder + "/w.safetensors")
        return try SafeTensorsFile(path: folder + "/w.safetensors")
    }

    /// Patterns of one number: NaN, infinities, and the largest finite one.
    private static let patterns: [(type: SafeTensorsDataType, nan: UInt64, infinity: UInt64, largest: UInt64)] = [
        (.float32, 0x7F80_0001, 0xFF80_0000, 0xFF7F_FFFF), (.float16, 0xFE00, 0x7C00, 0xFBFF),
        (.bfloat16, 0x7FC0, 0xFF80, 0x7F7F),
        (.float64, 0x7FF0_0000_0000_0001, 0x7FF0_0000_0000_0000, 0x3FF0_0000_0000_0000),
    ]

    @Test(
        "NaN and infinity are found at any position, also past a block and in a last odd number; the largest number passes"
    )
    func positions() throws {
        for (type, nan, infinity, largest) in Self.patterns {
            let size = type.bitCount / 8
            for count in [1, 7, 40_001] {
                func bytes(_ index: Int?, _ value: UInt64) -> SharedBytes {
                    var bytes = [UInt8]()
                    for position in 0..<count {
                        let number = position == index ? value : largest
                        for byte in 0..<size { bytes.append(UInt8(truncatingIfNeeded: number >> (8 * UInt64(byte)))) }
                    }
                    return SharedBytes(copying: bytes)
                }
                try withTemporaryFolder { folder in
                    let good = try write(type, bytes(nil, 0), folder)
                    #expect(try good.floats(of: "w").count == count && good.finiteBytes(of: "w").count == count * size)
                    for index in Set([0, count / 2, count - 1]) {
                        for (value, word) in [(nan, "NaN"), (infinity, "infinity")] {
                            let file = try write(type, bytes(index, value), folder)
                            let errors = [
                                #expect(throws: SafeTensorsError.self) { _ = try file.floats(of: "w") },
                                #expect(throws: SafeTensorsError.self) { _ = try file.finiteBytes(of: "w") },
                            ]
                            for error in errors {
                                #expect(error?.code == .notFinite && error?.tensor == "w")
                                #expect(
                                    error?.message == "holds a value that is not finite (\(word) at element \(index))")
                            }
                        }
                    }
                }
            }
        }
    }

    @Test("a double too large for float32 is not read as infinity")
    func overflow() throws {
        try withTemporaryFolder { folder in
            let file = try write(.float64, SharedBytes(copying: [1.0, -1e39]), folder)
            let error = #expect(throws: SafeTensorsError.self) { _ = try file.floats(of: "w") }
            #expect(error?.code == .notFinite && error?.message.contains("infinity at element 1") == true)
        }
    }

    @Test("quantised tensors are called so")
    func quantised() throws {
        try withTemporaryFolder { folder in
            for type in [SafeTensorsDataType.float8E4M3, .float8E5M2, .int8, .uint8] {
                let file = try write(type, SharedBytes(copying: [UInt8](repeating: 1, count: 8)), folder)
                let error = #expect(throws: SafeTensorsError.self) { _ = try file.floats(of: "w") }
                #expect(error?.code == .wrongType && error?.message == "is quantised (\(type.rawValue))")
            }
        }
    }
}
