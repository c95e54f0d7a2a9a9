import AdvGRPO
import Foundation
import SafeTensors
import TensorCore
import Testing

let engine = OpenBLASEngine.shared

/// One fixture file, read by `CASE/NAME`.
struct Golden {
    let file: SafeTensorsFile

    init(_ name: String) throws { file = try SafeTensorsFile(path: Self.folder + name) }

    static let folder =
        URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().path() + "Fixtures/"

    /// A JSON fixture's root object.
    static func document(_ name: String) throws -> [String: Any] {
        let data = try Data(contentsOf: URL(filePath: folder + name))
        return try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
    }

    func floats(_ name: String) throws -> [Float] { try file.floats(of: name) }

    func scalar(_ name: String) throws -> Double { Double(try #require(try floats(name).first)) }

    func tensor(_ name: String) throws -> Tensor {
        engine.tensor(try floats(name), shape: try #require(file[name]).shape)
    }

    func integers(_ name: String) throws -> [Int] {
        try file.withBytes(of: name) { bytes in
            (0..<bytes.count / 4).map { Int(bytes.loadUnaligned(fromByteOffset: 4 * $0, as: Int32.self)) }
        }
    }
}

/// Holds whole arrays together: |a - b| <= atol + rtol |b|; names the worst element.
func expectClose(
    _ actual: [Float], _ expected: [Float], atol: Float = 1e-5, rtol: Float = 1e-5, _ what: String = "",
    sourceLocation: SourceLocation = #_sourceLocation
) {
    guard actual.count == expected.count else {
        Issue.record("\(what): \(actual.count) values, expected \(expected.count)", sourceLocation: sourceLocation)
        return
    }
    let excess = { (i: Int) in abs(actual[i] - expected[i]) - rtol * abs(expected[i]) }
    guard let worst = actual.indices.max(by: { excess($0) < excess($1) }) else { return }
    #expect(
        abs(actual[worst] - expected[worst]) <= atol + rtol * abs(expected[worst]),
        "\(what)[\(worst)]: \(actual[worst]), expected \(expected[worst])", sourceLocation: sourceLocation)
}

/// Fails unless the gradient agrees with central differences of `loss` at every element of `x`.
func checkGradient(
    _ x: [Float], shape: [Int], step: Float = 1e-2, tolerance: Float = 2e-3,
    sourceLocation: SourceLocation = #_sourceLocation, _ loss: (Tensor) -> Tensor
) {
    let leaf = engine.tensor(x, shape: shape).tracked()
    let gradient = loss(leaf).gradients()[leaf]?.values ?? [Float](repeating: 0, count: x.count)
    let numeric = x.indices.map { index in
        var (above, below) = (x, x)
        above[index] += step
        below[index] -= step
        let difference =
            loss(engine.tensor(above, shape: shape)).scalar - loss(engine.tensor(below, shape: shape)).scalar
        return difference / (2 * step)
    }
    let scale = numeric.map(abs).max() ?? 1
    expectClose(
        gradient, numeric, atol: tolerance * max(scale, 1e-3), rtol: 0, "gradient", sourceLocation: sourceLocation)
}

/// Standard normal numbers for tests, one stream a case.
func normals(_ count: Int, _ stream: Int) -> [Float] { Philox(seed: 1, purpose: .tests, stream).normals(count) }

/// diffusers' sigmas for 10 steps, shift 3 (method.md 3.4).
func tenSteps() throws -> [Float] {
    let schedules = try #require(try Golden.document("flow.json")["schedules"] as? [[String: Any]])
    let schedule = try #require(schedules.first { $0["steps"] as? Int == 10 && $0["shift"] as? Double == 3 })
    return try #require(schedule["sigmas"] as? [Double]).map { Float($0) }
}
