public import AdvGRPO
public import Configuration
internal import Foundation
public import Logging
internal import Platform
public import Protocol
internal import Synchronization
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
            role: role, name: name,
            process: ProcessDescription(
                host: ProcessInfo.processInfo.hostName, processID: Int(ProcessInfo.processInfo.processIdentifier),
                processor: Processor.description, engine: "\(engine.name): \(engine.kernel)",
                program: Program.version),
            settingsDigest: settings.methodDigest, models: models)
    }
}

/// Warns of peers that run another version of the program, once of each version: a run whose roles differ works as long as they
/// understand each other, but its bits may be neither version's.
public final class ProgramVersions: Sendable {
    /// The version that this process runs.
    public let own: String
    private let logger: Logger
    private let told = Mutex<Set<String>>([])
    /// Versions that are told of; more are a stranger's invention.
    private static let limit = 16

    /// A watch over a role's peers.
    ///
    /// - Parameters:
    ///   - own: the version that this process runs.
    ///   - logger: says what there is to say.
    public init(own: String, logger: Logger) {
        self.own = own
        self.logger = logger
    }

    /// A watch for this program's version.
    package convenience init(logger: Logger) { self.init(own: Program.version, logger: logger) }

    /// A peer has said which version it runs.
    ///
    /// - Returns: whether that was worth a warning.
    @discardableResult
    public func note(_ program: String, of peer: String) -> Bool {
        guard program != own else { return false }
        let isNews = told.withLock { $0.count < Self.limit && $0.insert(program).inserted }
        if isNews {
            logger.warning("\(peer) runs advgrpo \(program), this process \(own); run one version everywhere")
        }
        return isNews
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
