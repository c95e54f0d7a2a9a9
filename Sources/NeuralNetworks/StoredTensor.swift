public import SafeTensors

/// Where a model's tensor comes from in files that keep it in another form: some rows of a tensor there, or the identity.
public struct StoredTensor: Sendable, Equatable {
    /// Its name in the file.
    let name: String
    /// The model's shape.
    public let shape: [Int]
    /// Which of the file's rows these are, one range after the other, in parts of `partCount`; none where the file has no such tensor.
    let ranges: [Range<Int>]
    /// Equal parts the file's rows are counted in.
    let partCount: Int

    private init(name: String, shape: [Int], ranges: [Range<Int>], partCount: Int) {
        (self.name, self.shape, self.ranges, self.partCount) = (name, shape, ranges, partCount)
    }

    /// A tensor as it is.
    public init(_ entry: TensorEntry) { self.init(entry.name, shape: entry.shape) }

    init(_ name: String, shape: [Int]) { self.init(name: name, shape: shape, ranges: [0..<1], partCount: 1) }

    /// The identity matrix in the place of a projection that a file leaves out.
    ///
    /// - Parameter width: of the matrix [width, width].
    public static func identity(_ width: Int) -> StoredTensor {
        StoredTensor(name: "", shape: [width, width], ranges: [], partCount: 1)
    }

    /// One of equal parts of a tensor's rows; the tensor as it is, which no layer has the shape of, where they are not equal.
    public func part(_ index: Int, of count: Int) -> StoredTensor {
        guard let rows = shape.first, rows.isMultiple(of: count) else { return self }
        return StoredTensor(
            name: name, shape: [rows / count] + shape.dropFirst(), ranges: [index..<index + 1], partCount: count)
    }

    /// The second half of a tensor's rows before the first.
    public var exchanged: StoredTensor {
        guard let rows = shape.first, rows.isMultiple(of: 2) else { return self }
        return StoredTensor(name: name, shape: shape, ranges: [1..<2, 0..<1], partCount: 2)
    }

    /// A convolution of one pixel as the matrix it is: [N, K, 1, 1] -> [N, K].
    public var pointwise: StoredTensor {
        guard shape.count > 2, shape.dropFirst(2).allSatisfy({ $0 == 1 }) else { return self }
        return StoredTensor(name: name, shape: Array(shape.prefix(2)), ranges: ranges, partCount: partCount)
    }

    /// Whether it is in the file.
    var isStored: Bool { !ranges.isEmpty }

    /// Its name in the file; nil where it is not there.
    public var storedName: String? { isStored ? name : nil }

    /// The one range of rows it is; nil for several.
    var contiguous: Range<Int>? { ranges.count == 1 ? ranges[0] : nil }

    /// A range of rows in bytes or elements of the file's tensor.
    func bytes(_ range: Range<Int>, of count: Int) -> Range<Int> {
        range.lowerBound * count / partCount..<range.upperBound * count / partCount
    }

    /// The elements of an identity.
    var identity: [Float] {
        let width = shape[0]
        return (0..<width * width).map { $0 % (width + 1) == 0 ? 1 : 0 }
    }
}
