import Foundation
import TensorCore
import TestSupport
import Testing

let engine = OpenBLASEngine.shared

extension Golden {
    /// The first element of a tensor.
    func scalar(_ name: String) throws -> Double { Double(try #require(try floats(name).first)) }

    func tensor(_ name: String) throws -> Tensor { try tensor(name, on: engine) }

    /// A JSON fixture's root object.
    static func document(_ name: String) throws -> [String: Any] {
        let data = try Data(contentsOf: URL(filePath: Repository.fixtures + "/" + name))
        return try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
    }
}

/// Standard normal numbers for tests, one stream a case.
func normals(_ count: Int, _ stream: Int) -> [Float] { Philox(seed: 1, purpose: .tests, stream).normals(count) }

/// The same as a tensor.
func normalTensor(_ stream: Int, _ shape: Int..., offset: Float = 0) -> Tensor {
    engine.tensor(normals(shape.reduce(1, *), stream).map { $0 + offset }, shape: shape)
}

/// diffusers' sigmas for 10 steps, shift 3 (method.md 3.4).
func tenSteps() throws -> [Float] {
    let schedules = try #require(try Golden.document("flow.json")["schedules"] as? [[String: Any]])
    let schedule = try #require(schedules.first { $0["steps"] as? Int == 10 && $0["shift"] as? Double == 3 })
    return try #require(schedule["sigmas"] as? [Double]).map { Float($0) }
}
