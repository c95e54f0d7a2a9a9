import Foundation
import Protocol
import SafeTensors
import Testing

@Suite("A manifest describes exactly the bytes there are")
struct ManifestTests {
    private let one = PieceDigest(bytes: [UInt8](repeating: 1, count: 16))
    private let two = PieceDigest(bytes: 0..<16)

    private func manifest(_ tensors: WeightsManifest.Tensor..., pieceByteCount: Int = 4) throws -> WeightsManifest {
        try WeightsManifest(pieceByteCount: pieceByteCount, tensors: tensors)
    }

    private func tensor(_ name: String, _ shape: [Int], _ pieces: [PieceDigest]) -> WeightsManifest.Tensor {
        .init(name: name, dtype: .float32, shape: shape, pieces: pieces)
    }

    @Test("its text is the documented JSON, and reads back equal")
    func text() throws {
        let made = try manifest(tensor("a", [2], [one, two]), tensor("b", [1], [one]))
        let text = String(decoding: made.text.array, as: UTF8.self)
        let (first, second) = (one.hexadecimal, two.hexadecimal)
        #expect(
            text == #"{"pieceByteCount":4,"tensors":[{"dtype":"F32","name":"a","pieces":["\#(first)","\#(second)"],"#
                + #""shape":[2]},{"dtype":"F32","name":"b","pieces":["\#(first)"],"shape":[1]}]}"#)
        #expect(try WeightsManifest(text: made.text) == made)
        #expect(made.pieces == [.init(digest: one, byteCount: 4), .init(digest: two, byteCount: 4)])
        #expect(made.byteCount == 12)
    }

    @Test("the last piece of a tensor has what is left")
    func lengths() throws {
        let made = try manifest(tensor("a", [3], [one, two]), pieceByteCount: 8)
        #expect(made.pieces.map(\.byteCount) == [8, 4])
    }

    @Test("what contradicts itself is refused")
    func refusals() {
        #expect(failure { _ = try manifest(tensor("a", [2], [one])) } == .invalidValue)
        #expect(failure { _ = try manifest(tensor("a", [1], [one, two])) } == .invalidValue)
        #expect(failure { _ = try manifest(tensor("a", [0], [one])) } == .invalidValue)
        #expect(failure { _ = try manifest(tensor("b", [1], [one]), tensor("a", [1], [two])) } == .invalidValue)
        #expect(failure { _ = try manifest(tensor("a", [1], [one]), tensor("a", [1], [two])) } == .invalidValue)
        // One digest cannot be that of four bytes and of eight.
        let both = [tensor("a", [1], [one]), tensor("b", [2], [one])]
        #expect(failure { _ = try WeightsManifest(pieceByteCount: 8, tensors: both) } == .invalidValue)
        #expect(failure { _ = try manifest(pieceByteCount: 0) } == .invalidValue)
        #expect(failure { _ = try manifest(pieceByteCount: 1 << 25) } == .invalidValue)
        #expect(failure { _ = try manifest(tensor("a", [1 << 40], [one])) } == .limitExceeded)
        #expect(failure { _ = try manifest(tensor("a", [1 << 62, 8], [one])) } == .limitExceeded)
        #expect(failure { _ = try manifest(tensor("a", [-1], [])) } == .limitExceeded)
        #expect(failure { _ = try manifest(tensor("a", [Int](repeating: 1, count: 9), [one])) } == .limitExceeded)
    }

    @Test(
        "text that is no manifest is refused",
        arguments: ["", "{}", "[]", #"{"pieceByteCount":4}"#, #"{"pieceByteCount":4,"tensors":[{"name":"a"}]}"#])
    func texts(_ text: String) {
        #expect(failure { _ = try WeightsManifest(text: SharedBytes(copying: Array(text.utf8))) } == .malformedFields)
    }
}
