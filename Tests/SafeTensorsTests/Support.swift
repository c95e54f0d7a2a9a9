import Foundation
import SafeTensors
import TestSupport

/// Folder of the committed fixtures.
let fixtures = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "Fixtures/SafeTensors").path

/// A header from JSON text, with message limits.
func parse(_ json: String, dataByteCount: Int) throws(SafeTensorsError) -> SafeTensorsHeader {
    try SafeTensorsHeader(
        json: Array(json.utf8), dataByteCount: dataByteCount, limits: .message, source: "test")
}

/// The code of the error `body` throws, or nil.
func failure(_ body: () throws -> Void) -> SafeTensorsError.Code? { thrown(SafeTensorsError.self, body)?.code }
