import Foundation
import Protocol
import SafeTensors
import TestSupport
import Transport

/// The fields of a message as a tree that can say anything, integers beyond every range included.
indirect enum Said: Codable, Sendable {
    case null
    case bool(Bool)
    case int(Int)
    case number(Double)
    case text(String)
    case list([Said])
    case object([String: Said])

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self = .null
        } else if let value = try? container.decode(Bool.self) {
            self = .bool(value)
        } else if let value = try? container.decode(Int.self) {
            self = .int(value)
        } else if let value = try? container.decode(Double.self) {
            self = .number(value)
        } else if let value = try? container.decode(String.self) {
            self = .text(value)
        } else if let value = try? container.decode([Said].self) {
            self = .list(value)
        } else {
            self = .object(try container.decode([String: Said].self))
        }
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .null: try container.encodeNil()
        case .bool(let value): try container.encode(value)
        case .int(let value): try container.encode(value)
        case .number(let value): try container.encode(value)
        case .text(let value): try container.encode(value)
        case .list(let value): try container.encode(value)
        case .object(let value): try container.encode(value)
        }
    }

    /// The fields of a message.
    init(_ message: some WireMessage) throws {
        self = try JSONDecoder().decode(Said.self, from: JSONEncoder().encode(message))
    }

    /// Numbers of leaves: everything that is no object, and no list with something in it.
    var leafCount: Int {
        switch self {
        case .object(let members): members.values.reduce(0) { $0 + $1.leafCount }
        case .list(let elements) where !elements.isEmpty: elements.reduce(0) { $0 + $1.leafCount }
        default: 1
        }
    }

    /// The same with one leaf changed, in the order of the keys.
    func changing(leaf: Int, _ change: (Said) -> Said) -> Said {
        var left = leaf
        func walk(_ said: Said) -> Said {
            switch said {
            case .object(let members):
                var changed = members
                for key in members.keys.sorted() { changed[key] = members[key].map(walk) }
                return .object(changed)
            case .list(let elements) where !elements.isEmpty: return .list(elements.map(walk))
            default:
                defer { left -= 1 }
                return left == 0 ? change(said) : said
            }
        }
        return walk(self)
    }

    /// A member of an object.
    subscript(_ key: String) -> Said? {
        get { if case .object(let members) = self { members[key] } else { nil } }
        set {
            guard case .object(var members) = self else { return }
            members[key] = newValue
            self = .object(members)
        }
    }
}

/// One request or answer, well formed, whatever it means.
struct Utterance: Sendable {
    var kind: MessageKind
    var fields: Said
    var tensors: TensorSet

    /// What a message says.
    init(_ message: some WireMessage) throws {
        kind = type(of: message).kind
        fields = try Said(message)
        tensors = message.tensors
    }

    /// Carries the fields and tensors under the kind that is being said.
    private struct Carrier: WireMessage {
        @TaskLocal static var kind = MessageKind.failure
        var fields: Said
        var tensors: TensorSet
        init(fields: Said, tensors: TensorSet) { (self.fields, self.tensors) = (fields, tensors) }
        init(from decoder: any Decoder) throws { self.init(fields: try Said(from: decoder), tensors: TensorSet()) }
        func encode(to encoder: any Encoder) throws { try fields.encode(to: encoder) }
        static func == (left: Carrier, right: Carrier) -> Bool { left.tensors == right.tensors }
    }

    /// As a request travels.
    func encoded(runID: RunID?, clientID: ClientID?, sender: Role?, requestID: UInt64) throws -> EncodedMessage {
        try Carrier.$kind.withValue(kind) {
            var encoded = try EncodedMessage(
                Carrier(fields: fields, tensors: tensors), runID: runID, clientID: clientID, sender: sender,
                requestID: requestID)
            encoded.envelope.deadlineMilliseconds = 10_000
            return encoded
        }
    }

    /// Answers a request.
    func answer(_ request: Request) {
        Carrier.$kind.withValue(kind) { request.reply(Carrier(fields: fields, tensors: tensors), isKept: false) }
    }

    /// Says something else in up to three places.
    mutating func twist(_ random: inout SplitMix) {
        for _ in 0..<random.below(3) + 1 {
            if tensors.count > 0, random.below(3) == 0 {
                twistTensor(&random)
            } else if fields.leafCount > 0 {
                fields = fields.changing(leaf: random.below(fields.leafCount)) { twisted($0, &random) }
            }
        }
    }

    private func twisted(_ said: Said, _ random: inout SplitMix) -> Said {
        func one(_ choices: [Said], _ random: inout SplitMix) -> Said { choices[random.below(choices.count)] }
        switch said {
        case .int(let value):
            return one(
                [
                    -1, 0, 1, 2, value &+ 1, value &- 1, 4095, 4096, 4097, 65_536, 1 << 20, (1 << 20) - 1, 1 << 31,
                    1 << 32,
                    (1 << 32) - 1, 1 << 40, 1 << 53, .max, .min,
                ].map { .int($0) }, &random)
        case .number: return one([-1, 0, 1e-300, 1e300, -1e300, 0.5].map { .number($0) }, &random)
        case .text(let text):
            return one(
                [
                    .text(""), .text("x"), .text(String(text.reversed())), .text(text + text),
                    .text(String(repeating: "y", count: 70_000)), .text(String(text.dropLast())), .text("\u{0} é 🦊"),
                    .int(7), .null,
                ], &random)
        case .bool(let value): return one([.bool(!value), .null], &random)
        case .null: return one([.int(0), .text(""), .bool(true)], &random)
        case .list, .object: return one([.list([.int(1)]), .null, .object([:])], &random)
        }
    }

    private mutating func twistTensor(_ random: inout SplitMix) {
        let name = tensors.names[random.below(tensors.count)]
        guard let tensor = tensors[name] else { return }
        func zeros(_ dtype: SafeTensorsDataType, _ shape: [Int]) -> TensorPayload? {
            dtype.byteCount(shape: shape).map {
                TensorPayload(dtype: dtype, shape: shape, bytes: SharedBytes(copying: [UInt8](repeating: 0, count: $0)))
            }
        }
        switch random.below(7) {
        case 0: tensors[name] = nil
        case 1: tensors[name] = zeros(tensor.dtype, Array(tensor.shape.reversed()))
        case 2: tensors[name] = zeros(tensor.dtype, [4097] + tensor.shape.dropFirst().map { _ in 1 })
        case 3: tensors[name] = zeros(tensor.dtype, [Int](repeating: 1, count: tensor.shape.count))
        case 4: tensors[name] = zeros([.int64, .bfloat16, .bool, .float64][random.below(4)], tensor.shape)
        case 5:
            guard tensor.dtype == .float32 else { return }
            let value = [Float.nan, .infinity, -.infinity, 3e38][random.below(4)]
            tensors[name] = TensorPayload(
                floats: [Float](repeating: value, count: tensor.elementCount), shape: tensor.shape)
        default: tensors["reward.unheard"] = TensorPayload(floats: [1, 2])
        }
    }
}
