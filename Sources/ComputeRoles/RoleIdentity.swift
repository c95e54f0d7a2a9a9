public import AdvGRPO
public import Configuration
import Foundation
public import Protocol
public import TensorCore

/// Who a process is, as it introduces itself.
public enum RoleIdentity {
    /// The introduction of this process.
    ///
    /// - Parameters:
    ///   - role: what it does in the run.
    ///   - name: unique in the run.
    ///   - settings: of the run.
    ///   - engine: what computes.
    ///   - models: digests of the models it has loaded, by their part of the run.
    public static func hello(
        _ role: Role, name: String, settings: Settings, engine: any Engine, models: [String: String]
    ) -> Hello {
        Hello(
            role: role, name: name, host: ProcessInfo.processInfo.hostName,
            processID: Int(ProcessInfo.processInfo.processIdentifier), processor: Processor.description,
            engine: "\(engine.name): \(engine.kernel)", precision: settings.precision.rawValue,
            settingsDigest: settings.methodDigest, models: models)
    }
}

extension NumericPrecision {
    /// Element type of weights and activations.
    public var dtype: DType {
        switch self {
        case .fp32: .float32
        case .bf16: .bfloat16
        }
    }
}
