import TensorCore

/// DiffAugment's changes of one image: brightness, saturation, contrast, then a shift and a grey square.
///
/// - Source: arXiv 2006.10738 (Zhao et al. 2020), DiffAugment_pytorch.py, policy "color,translation,cutout". What it does to
///   images in [-1, 1], done to images in [0, 1]: the zeros it fills with are the grey 0.5. Differences: none.
struct ImageAugmentation: Sendable {
    /// Added to every value, in -0.25..<0.25.
    var brightness: Float
    /// Factor of a value's difference from its pixel's mean, in 0..<2.
    var saturation: Float
    /// Factor of a value's difference from the image's mean, in 0.5..<1.5.
    var contrast: Float
    /// Pixels the image moves down and right by, at most an eighth of its sides.
    var shift: (rows: Int, columns: Int)
    /// First row and column of the grey square, half as long as the sides; part of it may lie outside.
    var square: (row: Int, column: Int)

    static let grey: Float = 0.5

    /// The changes that one stream draws.
    ///
    /// - Parameters:
    ///   - stream: whose first seven words they are.
    ///   - height: of the image, in pixels.
    ///   - width: the same.
    init(_ stream: Philox, height: Int, width: Int) {
        brightness = Float(stream.uniform(0) - 0.5) / 2
        saturation = Float(stream.uniform(1) * 2)
        contrast = Float(stream.uniform(2) + 0.5)
        func shift(_ word: Int, _ length: Int) -> Int {
            let most = Self.largestShift(length)
            return stream.integer(word, below: 2 * most + 1) - most
        }
        self.shift = (shift(3, height), shift(4, width))
        func first(_ word: Int, _ length: Int) -> Int {
            let side = Self.squareSide(length)
            return stream.integer(word, below: length + 1 - side % 2) - side / 2
        }
        square = (first(5, height), first(6, width))
    }

    /// An eighth, rounded.
    private static func largestShift(_ length: Int) -> Int { (length + 4) / 8 }

    /// Half, rounded up.
    private static func squareSide(_ length: Int) -> Int { (length + 1) / 2 }

    /// The changed image.
    ///
    /// - Parameter pixels: [H, W, 3] in [0, 1]; colours may leave that range, as DiffAugment's do.
    func callAsFunction(_ pixels: ArraySlice<Float>, height: Int, width: Int) -> [Float] {
        var coloured = [Float](repeating: 0, count: pixels.count)
        var sum: Double = 0
        for first in stride(from: 0, to: pixels.count, by: 3) {
            let values = (0..<3).map { pixels[pixels.startIndex + first + $0] + brightness }
            let mean = (values[0] + values[1] + values[2]) / 3
            for channel in 0..<3 {
                coloured[first + channel] = (values[channel] - mean) * saturation + mean
                sum += Double(coloured[first + channel])
            }
        }
        let mean = Float(sum / Double(pixels.count))
        var result = [Float](repeating: Self.grey, count: pixels.count)
        let hidden = (
            rows: square.row..<square.row + Self.squareSide(height),
            columns: square.column..<square.column + Self.squareSide(width)
        )
        for row in 0..<height where (0..<height).contains(row - shift.rows) {
            for column in 0..<width where (0..<width).contains(column - shift.columns) {
                if hidden.rows.contains(row), hidden.columns.contains(column) { continue }
                let (from, to) = (((row - shift.rows) * width + column - shift.columns) * 3, (row * width + column) * 3)
                for channel in 0..<3 {
                    result[to + channel] = (coloured[from + channel] - mean) * contrast + mean
                }
            }
        }
        return result
    }
}
