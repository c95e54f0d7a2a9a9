import ComputeRoles
import Protocol
import SafeTensors
import TensorCore
import TestSupport
import Testing

@Suite struct TensorBridgeTests {
    @Test("images come back as the 8-bit values they travelled as, clamped")
    func images() {
        let engine = OpenBLASEngine.shared
        let sent = engine.tensor([0, 1, 0.5, -3, 7, 100.4 / 255], shape: [1, 1, 2, 3])
        let payload = TensorPayload(images: sent)
        #expect(payload.bytes.array == [0, 255, 128, 0, 255, 100])
        let received = payload.images(on: engine)
        #expect(received.shape == [1, 1, 2, 3] && received.dtype == .float32)
        #expect(received.values == [0, 1, 128.0 / 255, 0, 1, 100.0 / 255])
    }
}
