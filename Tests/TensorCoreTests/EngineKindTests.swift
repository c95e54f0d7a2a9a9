import Foundation
import Testing

@testable import TensorCore

/// The table of engines.
@Suite struct EngineKindTests {
    @Test("names are the engines' own and none stands twice")
    func names() throws {
        let names = EngineKind.allCases.map(\.rawValue)
        #expect(Set(names).count == names.count)
        for kind in EngineKind.allCases where kind.isAvailable {
            #expect(try kind.engine().name == kind.rawValue)
            #expect(EngineKind(rawValue: kind.rawValue) == kind)
        }
        #expect(EngineKind.default.isAvailable && EngineKind.default == .oneDNN)
        #expect(EngineKind(rawValue: "oneDNN") == nil)
    }

    @Test("an engine that does not run here says why and what to do, and is not made")
    func unavailable() throws {
        let kind = EngineKind("absent", "", obstacle: { "there is no device; choose onednn" }) {
            preconditionFailure("made")
        }
        let error = #expect(throws: UnavailableEngine.self) { try kind.engine() }
        #expect(error?.description == "engine absent does not run here: there is no device; choose onednn")
        #expect(!kind.isAvailable)
    }

    @Test("it is written as its name, and a name that none has is refused")
    func coding() throws {
        let text = try JSONEncoder().encode(["engine": EngineKind.openBLAS])
        #expect(String(decoding: text, as: UTF8.self) == #"{"engine":"openblas"}"#)
        #expect(throws: DecodingError.self) {
            try JSONDecoder().decode([String: EngineKind].self, from: Data(#"{"engine":"cuda"}"#.utf8))
        }
    }
}
