import AdvGRPO
import ComputeRoles
import Protocol
import SafeTensors
import TensorCore

/// Name of a state's document among its tensors.
private let documentName = "document.json"

extension TensorSet {
    /// A state on its way: its tensors, and its document as bytes.
    init(_ state: AdvGRPO.DiscriminatorState) {
        self.init(state.tensors)
        let bytes = Array(state.document.utf8)
        self[documentName] = TensorPayload(uint8s: bytes, shape: [bytes.count])
    }
}

extension AdvGRPO.DiscriminatorState {
    /// - Throws: `Failure` when the document is missing, `WireError` when a tensor is not floating point.
    init(_ tensors: TensorSet, engine: any Engine) throws {
        guard let document = tensors[documentName] else {
            throw Failure(code: .invalidState, message: "the discriminator's state has no \(documentName)")
        }
        var rest = tensors
        rest[documentName] = nil
        self.init(
            tensors: try rest.parameters(on: engine), document: String(decoding: document.bytes.array, as: UTF8.self))
    }
}
