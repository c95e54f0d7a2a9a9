import Foundation
import SafeTensors

/// Folder of the committed fixtures.
let fixtures = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "Fixtures/SafeTensors").path

/// Runs `body` with an empty folder that is removed afterwards.
func withTemporaryFolder<Result>(_ body: (String) throws -> Result) throws -> Result {
    let folder = FileManager.default.temporaryDirectory.appending(path: "safetensors-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    return try body(folder)
}

/// A header from JSON text, with message limits.
func parse(_ json: String, dataByteCount: Int) throws(SafeTensorsError) -> SafeTensorsHeader {
    try SafeTensorsHeader(
        json: Array(json.utf8), dataByteCount: dataByteCount, limits: .message, source: "test")
}

/// The code of the error `body` throws, or nil.
func failure(_ body: () throws -> Void) -> SafeTensorsError.Code? {
    do {
        try body()
        return nil
    } catch {
        return (error as? SafeTensorsError)?.code
    }
}
