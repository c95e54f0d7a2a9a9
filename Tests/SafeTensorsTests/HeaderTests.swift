import SafeTensors
import Testing

@Suite("The header parser accepts what the format allows and nothing else")
struct HeaderTests {
    @Test("a plain header")
    func plain() throws {
        let header = try parse(
            #"{"__metadata__":{"k":"v\u00e9\ud83d\ude00"}, "b":{"shape":[2,3],"dtype":"F32","data_offsets":[4,28]},"#
                + #""a":{"dtype":"I32","shape":[],"data_offsets":[0,4]}}   "#, dataByteCount: 28)
        #expect(header.entries.map(\.name) == ["a", "b"])
        #expect(header["b"]?.shape == [2, 3])
        #expect(header["b"]?.byteRange == 4..<28)
        #expect(header["a"]?.elementCount == 1)
        #expect(header.metadata == ["k": "vé😀"])
    }

    @Test(
        "scalars, empty tensors, no tensors, sub-byte types",
        arguments: [
            (#"{}"#, 0), (#"{"__metadata__":{}}"#, 0),
            (#"{"e":{"dtype":"F32","shape":[0,7],"data_offsets":[0,0]}}"#, 0),
            (
                #"{"e":{"dtype":"F64","shape":[0],"data_offsets":[4,4]},"s":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}"#,
                4
            ),
            (#"{"q":{"dtype":"F4","shape":[2,3],"data_offsets":[0,3]}}"#, 3),
            (#"{"q":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3]}}"#, 3),
        ])
    func legal(json: String, dataByteCount: Int) throws {
        _ = try parse(json, dataByteCount: dataByteCount)
    }

    @Test(
        "every rule has its refusal",
        arguments: [
            // Framing of the JSON.
            ("", 0), ("[]", 0), (" {}", 0), ("{", 0), ("{}x", 0), ("{}\n", 0), ("{}{}", 0), ("{\"a\"}", 0),
            ("{\"a\":}", 0),
            (#"{"a":1}"#, 0), (#"{"a":null}"#, 0), (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},}"#, 4),
            // Metadata is text to text.
            (#"{"__metadata__":{"k":1}}"#, 0), (#"{"__metadata__":{"k":"a","k":"b"}}"#, 0),
            (#"{"__metadata__":{},"__metadata__":{}}"#, 0), (#"{"__metadata__":"k"}"#, 0),
            (#"{"__metadata__":{"k":{}}}"#, 0),
            // Strings.
            (#"{"__metadata__":{"k":"\ud83d"}}"#, 0), (#"{"__metadata__":{"k":"\ud83dx"}}"#, 0),
            (#"{"__metadata__":{"k":"\x"}}"#, 0),
            (#"{"__metadata__":{"k":"\u12"}}"#, 0), (#"{"__metadata__":{"k":"\u+123"}}"#, 0),
            ("{\"__metadata__\":{\"k\":\"\u{1}\"}}", 0),
            // One tensor's fields.
            (#"{"a":{"dtype":"F32","shape":[1]}}"#, 4), (#"{"a":{"shape":[1],"data_offsets":[0,4]}}"#, 4),
            (#"{"a":{"dtype":"F32","data_offsets":[0,4]}}"#, 4),
            (#"{"a":{"dtype":"f32","shape":[1],"data_offsets":[0,4]}}"#, 4),
            (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}}"#, 4),
            (#"{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 4),
            (#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, 4),
            (#"{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}"#, 4),
            (#"{"a":{"dtype":"F32","shape":[01],"data_offsets":[0,4]}}"#, 4),
            (#"{"a":{"dtype":"F32","shape":[1e0],"data_offsets":[0,4]}}"#, 4),
            (#"{"a":{"dtype":"F32","shape":1,"data_offsets":[0,4]}}"#, 4),
            (#"{"a":{"dtype":"F32","shape":[[1]],"data_offsets":[0,4]}}"#, 4),
            (#"{"a":{"dtype":"F32","shape":["1"],"data_offsets":[0,4]}}"#, 4),
            (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#, 4),
            (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}}"#, 4),
            (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}"#, 4),
            (#"{"a":{"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,4]}}"#, 4),
        ])
    func malformed(json: String, dataByteCount: Int) {
        #expect(failure { _ = try parse(json, dataByteCount: dataByteCount) } == .malformedHeader)
    }

    @Test(
        "sizes that wrap, ranges that lie, holes and overlap",
        arguments: [
            // Product wraps to 0 (leejet/stable-diffusion.cpp issue 1876); zero must not short-circuit (LiteRT issue 9255).
            (#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#, 0),
            (#"{"a":{"dtype":"F32","shape":[0,4294967296,4294967296],"data_offsets":[0,0]}}"#, 0),
            (#"{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,4]}}"#, 4),
            (#"{"a":{"dtype":"F32","shape":[0],"data_offsets":[9,9]}}"#, 4),
            // Shape and offsets disagree (ztxz16/fastllm issue 712).
            (#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, 4),
            (#"{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}}"#, 1),
            // Not from 0, a hole, an overlap, past the end, before the end.
            (#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#, 2),
            (
                #"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}"#,
                3
            ),
            (
                #"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#,
                3
            ),
            (
                #"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#,
                2
            ),
            (#"{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}}"#, 7),
            (#"{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}}"#, 9),
            // Names used twice (ggml-org/llama.cpp issue 1603).
            (
                #"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#,
                2
            ),
        ])
    func inconsistent(json: String, dataByteCount: Int) {
        #expect(failure { _ = try parse(json, dataByteCount: dataByteCount) } == .inconsistentTensor)
    }

    @Test("counts are limited while parsing")
    func limits() {
        let rank = Array(repeating: "1", count: 9).joined(separator: ",")
        #expect(
            failure {
                _ = try parse(#"{"a":{"dtype":"U8","shape":[\#(rank)],"data_offsets":[0,1]}}"#, dataByteCount: 1)
            }
                == .limitExceeded)
        let metadata = (0..<17).map { "\"\($0)\":\"\"" }.joined(separator: ",")
        #expect(failure { _ = try parse("{\"__metadata__\":{\(metadata)}}", dataByteCount: 0) } == .limitExceeded)
        let tensors = (0..<4097).map { #""\#($0)":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}"# }.joined(
            separator: ",")
        #expect(failure { _ = try parse("{\(tensors)}", dataByteCount: 0) } == .limitExceeded)
    }

    @Test("invalid UTF-8 is refused")
    func encoding() {
        let json = Array(#"{"__metadata__":{"k":""#.utf8) + [0xFF] + Array(#""}}"#.utf8)
        #expect(
            failure { _ = try SafeTensorsHeader(json: json, dataByteCount: 0, limits: .message, source: "test") }
                == .malformedHeader)
    }

    @Test(
        "the length is checked before anything is allocated",
        arguments: [
            (UInt64.max, 1 << 30, SafeTensorsError.Code.limitExceeded), (UInt64(Int.max), 1 << 30, .limitExceeded),
            (1 << 20 + 1, 1 << 30, .limitExceeded), (100, 107, .malformedHeader), (1, 8, .malformedHeader),
        ])
    func length(declared: UInt64, total: Int, code: SafeTensorsError.Code) {
        withUnsafeBytes(of: declared.littleEndian) { prefix in
            #expect(
                failure {
                    _ = try SafeTensorsHeader.jsonByteCount(
                        prefix: prefix, totalByteCount: total, limits: .message, source: "test")
                } == code)
        }
    }

    @Test("what is encoded parses to the same header, with the data at a multiple of 64")
    func roundTrip() throws {
        let header = try SafeTensorsHeader(
            describing: [
                ("z", .uint8, [3]), ("a \"\\\n\u{1}é", .float32, [2, 2]), ("", .bool, [0]), ("m", .bfloat16, []),
            ],
            metadata: ["format": "pt", "text": "\u{0}\t/\\\"😀"])
        let bytes = header.encoded()
        #expect(bytes.count % 64 == 0)
        #expect(header.entries.map(\.name) == ["a \"\\\n\u{1}é", "m", "", "z"])
        let parsed = try SafeTensorsHeader(
            json: Array(bytes[8...]), dataByteCount: header.dataByteCount, limits: .message, source: "test")
        #expect(parsed == header)
        #expect(
            failure { _ = try SafeTensorsHeader(describing: [("a", .bool, []), ("a", .bool, [])]) }
                == .inconsistentTensor)
        #expect(failure { _ = try SafeTensorsHeader(describing: [("__metadata__", .bool, [])]) } == .inconsistentTensor)
    }
}
