/// The engines of this build.
public enum Engines {
    /// Names that `named` accepts, the default first.
    public static let names = ["onednn", "openblas"]

    /// The engine used unless told otherwise: the fast one.
    public static var `default`: any Engine { OneDNNEngine.shared }

    /// The engine of this name.
    ///
    /// - Throws: `UnknownEngine` for a name that is not in `names`.
    public static func named(_ name: String) throws(UnknownEngine) -> any Engine {
        switch name {
        case "onednn": OneDNNEngine.shared
        case "openblas": OpenBLASEngine.shared
        default: throw UnknownEngine(name: name)
        }
    }
}

/// A name that no engine has.
public struct UnknownEngine: Error, CustomStringConvertible {
    /// What was asked for.
    public let name: String
    public var description: String {
        "no engine is called \"\(name)\"; choose one of \(Engines.names.joined(separator: ", "))"
    }
}
