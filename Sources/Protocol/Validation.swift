import SafeTensors

/// The rules messages share; each throws `invalidValue` with the field's name and value.
enum Check {
    /// Longest text that people read: a reason, a cause.
    static let sentence = 0...1 << 16
    /// Longest prompt; a header has room for it.
    static let prompt = 1...1 << 18
    /// Optimiser steps of one training.
    static let steps = 0...1 << 20
    /// Milliseconds a peer may be told to wait, or have: ten days.
    static let milliseconds = 0...864_000_000
    /// Chunks of one set of tensors.
    static let chunks = 1...1 << 20

    static func text(_ text: String, _ field: String, _ length: ClosedRange<Int>) throws(WireError) {
        guard length.contains(text.utf8.count) else {
            throw WireError(
                .invalidValue,
                "\(field) has \(text.utf8.count) bytes, expected \(length.lowerBound) to \(length.upperBound)")
        }
    }

    static func name(_ text: String, _ field: String) throws(WireError) { try Check.text(text, field, 1...128) }

    static func number(_ value: Int, _ field: String, _ range: ClosedRange<Int>) throws(WireError) {
        guard range.contains(value) else {
            throw WireError(
                .invalidValue, "\(field) is \(value), expected \(range.lowerBound) to \(range.upperBound)")
        }
    }

    static func notNegative(_ value: Int, _ field: String) throws(WireError) {
        guard value >= 0 else { throw WireError(.invalidValue, "\(field) is \(value), expected 0 or more") }
    }

    /// A group's members: as many as its noise can tell apart.
    static func members(_ count: Int, _ field: String) throws(WireError) {
        try number(count, field, 1...GroupID.members.count)
    }

    /// Few entries with short names.
    static func names(_ names: some Collection<String>, _ field: String, limit: Int) throws(WireError) {
        guard names.count <= limit else {
            throw WireError(.invalidValue, "\(field) has \(names.count) entries, expected at most \(limit)")
        }
        for name in names { try Check.name(name, "a name in \(field)") }
    }

    /// Few figures with plain names that begin as they should; those that are there are finite.
    static func metrics(_ metrics: [String: Double?], _ field: String, prefix: String) throws(WireError) {
        guard metrics.count <= 256 else {
            throw WireError(.invalidValue, "\(field) has \(metrics.count) entries, expected at most 256")
        }
        for (name, value) in metrics {
            let isPlain = name.utf8.allSatisfy { byte in
                UInt8(ascii: "a")...UInt8(ascii: "z") ~= byte || UInt8(ascii: "A")...UInt8(ascii: "Z") ~= byte
                    || UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte || byte == UInt8(ascii: ".")
                    || byte == UInt8(ascii: "_")
            }
            guard isPlain, name.hasPrefix(prefix), prefix.utf8.count + 1...64 ~= name.utf8.count else {
                throw WireError(
                    .invalidValue,
                    "\(field) has the name \"\(name.prefix(80))\", expected \(prefix) and letters, digits, dots or _, "
                        + "64 characters at most")
            }
            if let value { try finite(value, "\(field).\(name)") }
        }
    }

    /// A share of something.
    static func share(_ value: Double, _ field: String) throws(WireError) {
        guard (0...1).contains(value) else {
            throw WireError(.invalidValue, "\(field) is \(value), expected 0 to 1")
        }
    }

    static func seconds(_ value: Double, _ field: String) throws(WireError) {
        // 31 years: sums of them stay finite.
        guard (0...1e9).contains(value) else {
            throw WireError(.invalidValue, "\(field) is \(value), expected 0 to 1e9 seconds")
        }
    }

    /// Seconds by what was done in them.
    static func activities(_ seconds: [String: Double], _ field: String) throws(WireError) {
        try names(seconds.keys, field, limit: 64)
        for (name, value) in seconds { try Check.seconds(value, "\(field).\(name)") }
    }

    static func finite(_ value: Double, _ field: String) throws(WireError) {
        guard value.isFinite else { throw WireError(.invalidValue, "\(field) is \(value), expected a finite number") }
    }

    static func models(_ digests: [String: String]) throws(WireError) {
        try names(digests.keys, "models", limit: 64)
        for (name, digest) in digests { try Check.name(digest, "models.\(name)") }
    }

    /// A chunk's index lies within its count.
    static func chunk(_ index: Int, of count: Int) throws(WireError) {
        try number(count, "chunkCount", chunks)
        guard (0..<count).contains(index) else {
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

    /// No element is infinite or not a number, or larger than a limit, either way.
    static func finite(
        _ payload: TensorPayload, _ name: String, atMost limit: Float = .greatestFiniteMagnitude
    ) throws(WireError) {
        if let position = payload.floats.firstIndex(where: { !(abs($0) <= limit) }) {
            let expected = limit < .greatestFiniteMagnitude ? ", expected \(limit) at most, either way" : ""
            throw WireError(
                .invalidValue, "tensor \(name) holds \(payload.floats[position]) at element \(position)" + expected)
        }
    }

    /// `rewards`, every `reward.NAME` and every `witness.NAME`: float32, one finite value a member.
    static func rewards(_ tensors: TensorSet, memberCount: Int?) throws(WireError) {
        let rewards = try tensor("rewards", in: tensors, .float32, [memberCount])
        try members(rewards.elementCount, "the number of rewards")
        try finite(rewards, "rewards")
        for name in tensors.names where ["reward.", "witness."].contains(where: { name.hasPrefix($0) }) {
            try finite(try tensor(name, in: tensors, .float32, [rewards.elementCount]), name)
        }
    }

    /// `latents`, `logProbabilities` and `stepIndices` of one window: shapes agree, log-probabilities are finite, steps ascend.
    ///
    /// - Returns: the number of members.
    @discardableResult
    static func trajectory(_ tensors: TensorSet, ofTokens: Bool) throws(WireError) -> Int {
        let probabilities = try tensor(
            "logProbabilities", in: tensors, .float32, ofTokens ? [nil, nil, nil, nil] : [nil, nil])
        let (memberCount, window) = (probabilities.shape[0], probabilities.shape[1])
        try finite(probabilities, "logProbabilities")
        try tensor("latents", in: tensors, .float32, [memberCount, window + 1, nil, nil, nil])
        let steps = try tensor("stepIndices", in: tensors, .int32, [window]).int32s
        guard steps[0] >= 0, zip(steps, steps.dropFirst()).allSatisfy({ $0 < $1 }) else {
            throw WireError(.invalidValue, "stepIndices \(steps.prefix(8)) do not ascend from 0 or more")
        }
        return memberCount
    }

    /// `maps`, where there are any: float32, finite, one a member, of at most 256 x 256 places.
    static func maps(_ tensors: TensorSet, memberCount: Int) throws(WireError) {
        guard tensors["maps"] != nil else { return }
        let maps = try tensor("maps", in: tensors, .float32, [memberCount, nil, nil])
        guard maps.shape[1] <= 256, maps.shape[2] <= 256 else {
            throw WireError(.limitExceeded, "maps of \(maps.shape[1]) x \(maps.shape[2]) places, at most 256 x 256")
        }
        try finite(maps, "maps")
    }

    /// Nothing but these names and names with one of these prefixes.
    static func onlyTensors(_ names: Set<String>, prefixes: [String] = [], in tensors: TensorSet) throws(WireError) {
        for name in tensors.names where !names.contains(name) {
            guard prefixes.contains(where: { name.hasPrefix($0) && name != $0 }) else {
                throw WireError(.invalidValue, "tensor \"\(name.prefix(80))\" does not belong to this message")
            }
        }
    }
}
