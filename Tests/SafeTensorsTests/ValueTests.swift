import SafeTensors
import Testing

@Suite("Bytes and numbers")
struct ValueTests {
    #if arch(x86_64) && os(macOS)
    #else
        @Test("every half widens as the compiler's Float16 does")
        func halves() {
            for bits in UInt16.min ... .max {
                let expected = Float(Float16(bitPattern: bits))
                let value = FloatConversion.float(halfBits: bits)
                #expect(value.bitPattern == expected.bitPattern || (value.isNaN && expected.isNaN))
            }
        }
    #endif

    @Test("bfloat16 rounds to nearest, ties to even, and round trips")
    func bfloats() {
        for bits in UInt16.min ... .max {
            let value = FloatConversion.float(bfloatBits: bits)
            if value.isNaN {
                #expect(FloatConversion.float(bfloatBits: FloatConversion.bfloatBits(value)).isNaN)
            } else {
                #expect(FloatConversion.bfloatBits(value) == bits)
            }
        }
        // 1 + 2^-8 is halfway between 1 and 1 + 2^-7: even wins; 1 + 3 x 2^-8 goes up to 1 + 2^-6.
        #expect(FloatConversion.float(bfloatBits: FloatConversion.bfloatBits(1 + 0x1p-8)) == 1)
        #expect(FloatConversion.float(bfloatBits: FloatConversion.bfloatBits(1 + 3 * 0x1p-8)) == 1 + 0x1p-6)
        #expect(FloatConversion.float(bfloatBits: FloatConversion.bfloatBits(.greatestFiniteMagnitude)) == .infinity)
    }

    @Test("slices and joins share or copy as promised")
    func sharedBytes() {
        let bytes = SharedBytes(copying: [1, 2, 3, 4, 5] as [UInt8])
        #expect(bytes[1..<4].array == [2, 3, 4])
        #expect(bytes[5..<5].count == 0)
        #expect(SharedBytes().array.isEmpty)
        let alone = SharedBytes.joined([SharedBytes(), bytes])
        #expect(alone.retained.bytes.baseAddress == bytes.retained.bytes.baseAddress)
        #expect(SharedBytes.joined([bytes[3..<5], bytes[0..<1]]).array == [4, 5, 1])
        #expect(bytes[1..<5].array(of: UInt16.self) == [0x0302, 0x0504])
        #expect(bytes == SharedBytes(copying: [1, 2, 3, 4, 5] as [UInt8]))
        #expect(bytes != bytes[0..<4])
    }

    @Test("a slice beyond the end stops the program")
    func sliceOutOfRange() async {
        await #expect(processExitsWith: .failure) { _ = SharedBytes(copying: [1] as [UInt8])[0..<2] }
    }
}
