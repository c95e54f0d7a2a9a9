public import TensorCore
public import Testing

/// Compares every element: |actual - expected| <= absolute + relative · (largest |expected|).
///
/// The bound follows the tensor's scale, not each element, because an element near zero is a sum of large terms.
/// A failure prints the path, the worst index and both values.
public func expectClose(
    _ actual: [Float], _ expected: [Float], relative: Float = 1e-4, absolute: Float = 0, _ path: String = "",
    sourceLocation: SourceLocation = #_sourceLocation
) {
    guard actual.count == expected.count else {
        Issue.record("\(path): \(actual.count) elements, expected \(expected.count)", sourceLocation: sourceLocation)
        return
    }
    let scale = expected.reduce(Float(0)) { max($0, abs($1)) }
    let bound = absolute + relative * scale
    var worst = (index: -1, distance: Float(-1))
    for index in actual.indices {
        let distance = abs(actual[index] - expected[index])
        if !(distance <= worst.distance) { worst = (index, distance) }
        if distance.isNaN { break }
    }
    guard worst.index >= 0, !(worst.distance <= bound) else { return }
    Issue.record(
        """
        \(path): element \(worst.index) of \(actual.count) is \(actual[worst.index]), expected \(expected[worst.index]); \
        off by \(worst.distance), allowed \(bound) (scale \(scale))
        """, sourceLocation: sourceLocation)
}

/// Compares shapes and every element.
public func expectClose(
    _ actual: Tensor, _ expected: Tensor, relative: Float = 1e-4, absolute: Float = 0, _ path: String = "",
    sourceLocation: SourceLocation = #_sourceLocation
) {
    guard actual.shape == expected.shape else {
        Issue.record("\(path): shape \(actual.shape), expected \(expected.shape)", sourceLocation: sourceLocation)
        return
    }
    expectClose(
        actual.values, expected.values, relative: relative, absolute: absolute, path, sourceLocation: sourceLocation)
}

/// Compares a tensor with one of a fixture, shape and every element.
public func expectClose(
    _ actual: Tensor?, _ golden: Golden, _ name: String, relative: Float = 1e-4, absolute: Float = 0,
    sourceLocation: SourceLocation = #_sourceLocation
) throws {
    guard let actual else {
        Issue.record("\(name): nothing was computed", sourceLocation: sourceLocation)
        return
    }
    expectClose(
        actual, try golden.tensor(name, on: actual.engine), relative: relative, absolute: absolute,
        "\(name) on \(actual.engine.name)", sourceLocation: sourceLocation)
}

/// Holds the gradients of `f` to central differences, element by element.
///
/// f is weighted with fixed numbers in [-1, 1] and summed in double precision, so that every output counts.
///
/// - Parameters:
///   - inputs: points around which f is differentiable within `step`.
///   - step: half the distance of the two evaluations.
///   - tolerance: allowed difference, relative to the largest gradient of the same input (at least 1e-2).
public func checkGradients(
    _ inputs: [Tensor], step: Float = 1e-2, tolerance: Float = 1e-2, _ path: String = "",
    sourceLocation: SourceLocation = #_sourceLocation, of f: ([Tensor]) -> Tensor
) {
    guard let engine = inputs.first?.engine else { return }
    let leaves = inputs.map { $0.tracked() }
    let output = f(leaves)
    let weights = Philox(seed: 7, purpose: .tests).normals(output.count).map { max(-1, min(1, $0)) }
    func value(_ points: [Tensor]) -> Double {
        zip(f(points).values, weights).reduce(0) { $0 + Double($1.0) * Double($1.1) }
    }
    let gradients = output.gradients(upstream: engine.tensor(weights, shape: output.shape))
    for (number, leaf) in leaves.enumerated() {
        guard let gradient = gradients[leaf] else {
            Issue.record("\(path): no gradient for input \(number)", sourceLocation: sourceLocation)
            continue
        }
        let original = inputs[number].values
        var differences = original
        for index in original.indices {
            var values = original
            var points = inputs
            values[index] = original[index] + step
            points[number] = engine.tensor(values, shape: leaf.shape)
            let above = value(points)
            values[index] = original[index] - step
            points[number] = engine.tensor(values, shape: leaf.shape)
            differences[index] = Float((above - value(points)) / (2 * Double(step)))
        }
        expectClose(
            gradient.values, differences, relative: tolerance, absolute: tolerance * 1e-2,
            "\(path): gradient of input \(number)", sourceLocation: sourceLocation)
    }
}
