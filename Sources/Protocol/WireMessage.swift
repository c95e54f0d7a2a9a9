/// A message: plain fields that travel as JSON, and tensors that travel beside them.
public protocol WireMessage: Codable, Sendable, Equatable {
    /// Its number on the wire.
    static var kind: MessageKind { get }

    /// Its tensors; messages without any do not implement this.
    var tensors: TensorSet { get set }

    /// Checks every rule the types cannot express: shapes, ranges, finite numbers. Called before sending and after receiving.
    ///
    /// - Throws: `invalidValue`.
    func validate() throws(WireError)
}

extension WireMessage {
    /// No tensors; the codec refuses a message that brings some.
    public var tensors: TensorSet {
        get { TensorSet() }
        set {}
    }

    /// No rules.
    public func validate() throws(WireError) {}
}

/// A message that is answered by one kind of reply, or by `Failure`.
public protocol WireRequest: WireMessage {
    /// The reply.
    associatedtype Reply: WireMessage
}
