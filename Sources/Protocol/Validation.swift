import SafeTensors

/// The rules messages share; each throws `invalidValue` with the field's name and value.
enum Check {
    static func name(_ text: String, _ field: String) throws(WireError) {
        guard (1...128).contains(text.utf8.count) else {
            throw WireError(.invalidValue, "\(field) has \(text.utf8.count) bytes, expected 1 to 128")
        }
    }

    static func notNegative(_ value: Int, _ field: String) throws(WireError) {
        guard value >= 0 else { throw WireError(.invalidValue, "\(field) is \(value), expected 0 or more") }
    }

    static func positive(_ value: Int, _ field: String) throws(WireError) {
        guard value > 0 else { throw WireError(.invalidValue, "\(field) is \(value), expected 1 or more") }
    }

    static func seconds(_ value: Double, _ field: String) throws(WireError) {
        guard value >= 0, value.isFinite else {
            throw WireError(.invalidValue, "\(field) is \(value), expected seconds from 0")
        }
    }

    static func finite(_ value: Double, _ field: String) throws(WireError) {
        guard value.isFinite else { throw WireError(.invalidValue, "\(field) is \(value), expected a finite number") }
    }

    static func models(_ digests: [String: String]) throws(WireError) {
        guard digests.count <= 64 else {
            throw WireError(.invalidValue, "models has \(digests.count) entries, expected at most 64")
        }
        for (name, digest) in digests {
            try Check.name(name, "a name in models")
            try Check.name(digest, "models.\(name)")
        }
    }

    static func group(_ group: GroupID) throws(WireError) {
        try notNegative(group.epoch, "group.epoch")
        try notNegative(group.index, "group.index")
    }

    /// A chunk's index lies within its count.
    static func chunk(_ index: Int, of count: Int) throws(WireError) {
        guard count > 0, (0..<count).contains(index) else {
            throw WireError(.invalidValue, "chunkIndex \(index) is not within chunkCount \(count)")
        }
    }

    /// A tensor that must be there, with this type and shape; nil stands for any positive dimension.
    @discardableResult
    static func tensor(
        _ name: String, in tensors: TensorSet, _ dtype: SafeTensorsDataType, _ shape: [Int?]
    ) throws(WireError) -> TensorPayload {
        guard let payload = tensors[name] else { throw WireError(.invalidValue, "tensor \(name) is missing") }
        let fits =
            payload.dtype == dtype && payload.shape.count == shape.count
            && zip(payload.shape, shape).allSatisfy { $1 == nil ? $0 > 0 : $0 == $1 }
        guard fits else {
            let wanted = shape.map { $0.map(String.init) ?? "any" }.joined(separator: ", ")
            throw WireError(
                .invalidValue,
                "tensor \(name) is \(payload.dtype.rawValue) \(payload.shape), expected \(dtype.rawValue) [\(wanted)]")
        }
        return payload
    }

    /// No element is infinite or not a number.
    static func finite(_ payload: TensorPayload, _ name: String) throws(WireError) {
        if let position = payload.floats.firstIndex(where: { !$0.isFinite }) {
            throw WireError(.invalidValue, "tensor \(name) holds \(payload.floats[position]) at element \(position)")
        }
    }

    /// `rewards` and every `reward.NAME`: float32, one finite value a member.
    static func rewards(_ tensors: TensorSet, memberCount: Int?) throws(WireError) {
        let rewards = try tensor("rewards", in: tensors, .float32, [memberCount])
        try finite(rewards, "rewards")
        for name in tensors.names where name.hasPrefix("reward.") {
            try finite(try tensor(name, in: tensors, .float32, [rewards.elementCount]), name)
        }
    }

    /// Nothing but these names and names with this prefix.
    static func onlyTensors(_ names: Set<String>, prefix: String? = nil, in tensors: TensorSet) throws(WireError) {
        for name in tensors.names where !names.contains(name) {
            guard let prefix, name.hasPrefix(prefix), name != prefix else {
                throw WireError(.invalidValue, "tensor \"\(name.prefix(80))\" does not belong to this message")
            }
        }
    }
}
