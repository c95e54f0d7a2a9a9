/// Point-wise non-linearity.
public enum Activation: String, Sendable, CaseIterable {
    /// x / (1 + exp(-x))
    case silu
    /// GELU with the tanh approximation (MMDiT, T5).
    case geluTanh
    /// GELU with erf (DINOv2, OpenCLIP).
    case geluErf
    /// x sigmoid(1.702 x) (CLIP-L).
    case quickGelu
    /// max(x, 0)
    case relu
    /// tanh x
    case tanh
    /// 1 / (1 + exp(-x))
    case sigmoid
    /// exp x
    case exp
    /// sqrt x
    case sqrt
    /// ln(1 + exp x)
    case softplus
    /// x²
    case square
}

/// Which keys a query may attend to.
public enum AttentionMask: Sendable, Equatable {
    /// All.
    case none
    /// Those at or before its own position.
    case causal
}

/// Where the kernel's window starts and how far it moves.
public struct ConvolutionGeometry: Sendable, Hashable {
    /// Rows and columns the window moves by.
    public var stride: Int
    /// Zeros added at each edge.
    public var top: Int, left: Int, bottom: Int, right: Int

    /// The same padding at all four edges.
    public init(stride: Int = 1, padding: Int) {
        self.init(stride: stride, top: padding, left: padding, bottom: padding, right: padding)
    }

    /// Padding edge by edge; diffusers' `Downsample2D` pads bottom and right only.
    public init(stride: Int, top: Int, left: Int, bottom: Int, right: Int) {
        self.stride = stride
        self.top = top
        self.left = left
        self.bottom = bottom
        self.right = right
    }

    /// Output length for an input length `size` along one axis.
    public func outputSize(_ size: Int, kernel: Int, before: Int, after: Int) -> Int {
        (size + before + after - kernel) / stride + 1
    }
}

/// Step sizes of one AdamW update (Loshchilov and Hutter 2019, as torch.optim.AdamW).
public struct AdamStep: Sendable {
    /// Learning rate of this step.
    public var learningRate: Double
    /// Decay rates of the first and second moment. Double, because 1 - beta2 loses five digits when beta2 is rounded first.
    public var beta1: Double, beta2: Double
    /// Added to the root of the second moment.
    public var epsilon: Double
    /// Decoupled weight decay; zero gives Adam.
    public var weightDecay: Double
    /// Number of this update, from 1.
    public var number: Int

    /// All step sizes.
    public init(
        learningRate: Double, beta1: Double = 0.9, beta2: Double = 0.999, epsilon: Double = 1e-8,
        weightDecay: Double = 0,
        number: Int
    ) {
        self.learningRate = learningRate
        self.beta1 = beta1
        self.beta2 = beta2
        self.epsilon = epsilon
        self.weightDecay = weightDecay
        self.number = number
    }

    /// 1 - beta^number, the weight that a running mean has gathered so far.
    func correction(_ beta: Double) -> Double {
        var (power, base, exponent) = (1.0, beta, number)
        while exponent > 0 {
            if exponent & 1 == 1 { power *= base }
            base *= base
            exponent >>= 1
        }
        return 1 - power
    }
}

/// What runs tensor operations: one conformance a kind of hardware and library.
///
/// Models and the method never call these directly; the operations of `Tensor` check shapes, call the engine of their
/// first argument and record gradients. An engine computes one call on the calling thread and gives the same bits for the
/// same shapes, whatever else runs; work is spread over threads by `Lanes`, sample by sample. Floating-point
/// accumulation is fp32 everywhere; results have the dtype of the first argument unless said otherwise. All tensors of one call
/// live on this engine. Legend: B batch, S sequence, D width, H heads, M rows, C channels.
public protocol Engine: AnyObject, Sendable {
    /// As its row of `EngineKind` has it.
    var name: String { get }
    /// Library, version and the kernel chosen for this processor; recorded in every snapshot.
    var kernel: String { get }
    /// Whether tensors have values; those of a rehearsal only have shapes, and work on their elements may be left out.
    var computes: Bool { get }

    // MARK: Memory

    /// Copies host values in, rounding to `dtype`.
    func tensor(_ values: [Float], shape: [Int], dtype: DType) -> Tensor
    /// Copies host bytes in; they hold `shape` elements of `dtype`.
    func tensor(bytes: UnsafeRawBufferPointer, shape: [Int], dtype: DType) -> Tensor
    /// Takes in a mapped file's bytes, which stay valid and unwritten as long as `owner` lives: an engine in host memory reads
    /// them where they are, another copies them. They hold `shape` elements of `dtype`, aligned to their size.
    func tensor(mapped bytes: UnsafeRawBufferPointer, owner: any AnyObject & Sendable, shape: [Int], dtype: DType)
        -> Tensor
    /// Copies values out.
    func values(of x: Tensor) -> [Float]
    /// Copies the raw bytes out, little-endian.
    func bytes(of x: Tensor) -> [UInt8]
    /// Rounds or widens.
    func convert(_ x: Tensor, to dtype: DType) -> Tensor

    // MARK: Products

    /// act(x Wᵀ + b). x [M, K], weight [N, K], bias [N] -> [M, N].
    func linear(_ x: Tensor, weight: Tensor, bias: Tensor?, activation: Activation?) -> Tensor
    /// base + x Wᵀ + b. base [M, N], of x's dtype.
    func linear(_ x: Tensor, weight: Tensor, bias: Tensor?, addedTo base: Tensor) -> Tensor
    /// op(a) op(b) over 2-D operands, result in `dtype`.
    func matmul(_ a: Tensor, _ b: Tensor, transposeA: Bool, transposeB: Bool, dtype: DType) -> Tensor
    /// softmax(scale q kᵀ + bias, masked) v for each head. q [B, Sq, H·d], k and v [B, Sk, H·d], bias [H, Sq, Sk] or nil.
    /// - Returns: output [B, Sq, H·d] and, for the backward pass, the log of each row's softmax sum, fp32 [B, H, Sq].
    func attention(
        _ q: Tensor, _ k: Tensor, _ v: Tensor, headCount: Int, scale: Float, mask: AttentionMask, bias: Tensor?
    ) -> (output: Tensor, logSum: Tensor)
    /// Gradients of q, k and v.
    func attentionBackward(
        _ upstream: Tensor, q: Tensor, k: Tensor, v: Tensor, output: Tensor, logSum: Tensor, headCount: Int,
        scale: Float,
        mask: AttentionMask, bias: Tensor?
    ) -> (q: Tensor, k: Tensor, v: Tensor)
    /// x [B, H, W, Cin] (channels last), weight [Cout, Cin, kh, kw], bias [Cout] -> [B, H', W', Cout].
    func convolution(_ x: Tensor, weight: Tensor, bias: Tensor?, geometry: ConvolutionGeometry) -> Tensor
    /// Gradient of the convolution's input, whose shape is given.
    func convolutionInputGradient(_ upstream: Tensor, weight: Tensor, inputShape: [Int], geometry: ConvolutionGeometry)
        -> Tensor
    /// fp32 gradient of the convolution's weight, whose shape is given.
    func convolutionWeightGradient(_ upstream: Tensor, input: Tensor, weightShape: [Int], geometry: ConvolutionGeometry)
        -> Tensor

    // MARK: Normalisation

    /// y = (x - mean) / sqrt(var + eps) over the last axis, then · weight + bias. x [M, D].
    func layerNorm(_ x: Tensor, weight: Tensor?, bias: Tensor?, epsilon: Float) -> Tensor
    /// Gradients of input, weight and bias (fp32; nil without affine).
    func layerNormBackward(_ upstream: Tensor, input: Tensor, weight: Tensor?, epsilon: Float)
        -> (input: Tensor, weight: Tensor?, bias: Tensor?)
    /// LN(x)(1 + scale) + shift with per-sample shift and scale, rows of `modulation` [B, n, D]. x [B, S, D].
    func modulatedLayerNorm(_ x: Tensor, modulation: Tensor, shift: Int, scale: Int, epsilon: Float) -> Tensor
    /// Gradients of input and of the whole modulation (zero outside the two rows).
    func modulatedLayerNormBackward(
        _ upstream: Tensor, input: Tensor, modulation: Tensor, shift: Int, scale: Int, epsilon: Float
    ) -> (input: Tensor, modulation: Tensor)
    /// x / sqrt(mean(x²) + eps) · weight over the last axis; weight [D]. x [M, D].
    func rmsNorm(_ x: Tensor, weight: Tensor, epsilon: Float) -> Tensor
    /// Gradients of input and weight (fp32).
    func rmsNormBackward(_ upstream: Tensor, input: Tensor, weight: Tensor, epsilon: Float) -> (
        input: Tensor, weight: Tensor
    )
    /// Group normalisation over channels last, [B, ..., C]; SiLU afterwards when asked.
    func groupNorm(_ x: Tensor, groupCount: Int, weight: Tensor, bias: Tensor, epsilon: Float, silu: Bool) -> Tensor
    /// Gradients of input, weight and bias (fp32).
    func groupNormBackward(
        _ upstream: Tensor, input: Tensor, groupCount: Int, weight: Tensor, bias: Tensor, epsilon: Float, silu: Bool
    ) -> (input: Tensor, weight: Tensor, bias: Tensor)
    /// Softmax over the last axis.
    func softmax(_ x: Tensor) -> Tensor
    /// Gradient of the softmax's input from its output.
    func softmaxBackward(_ upstream: Tensor, output: Tensor) -> Tensor
    /// x / (‖x‖ + eps) over the last axis.
    func unitNorm(_ x: Tensor, epsilon: Float) -> Tensor
    /// Gradient of the unit norm's input.
    func unitNormBackward(_ upstream: Tensor, input: Tensor, epsilon: Float) -> Tensor

    // MARK: Element-wise

    /// f(x).
    func activate(_ x: Tensor, _ activation: Activation) -> Tensor
    /// upstream · f'(x).
    func activateBackward(_ upstream: Tensor, input: Tensor, _ activation: Activation) -> Tensor
    /// a + scale · b, same shapes.
    func add(_ a: Tensor, _ b: Tensor, scale: Float) -> Tensor
    /// a · b, same shapes.
    func multiply(_ a: Tensor, _ b: Tensor) -> Tensor
    /// scale · a + offset.
    func affine(_ a: Tensor, scale: Float, offset: Float) -> Tensor
    /// a · b with b of the last axis's length (`onRows` false) or one value a leading row (`onRows` true, b [rows]).
    func multiplyBroadcast(_ a: Tensor, _ b: Tensor, onRows: Bool) -> Tensor
    /// a + b with b of the length of a's trailing axes: b is added to every block of b.count elements.
    func addBroadcast(_ a: Tensor, _ b: Tensor) -> Tensor
    /// base + gate · y, gate a row of `modulation` [B, n, D], base and y [B, S, D].
    func gatedAdd(_ base: Tensor, _ y: Tensor, modulation: Tensor, gate: Int) -> Tensor
    /// Gradients of y and of the whole modulation (zero outside the gate's row).
    func gatedAddBackward(_ upstream: Tensor, y: Tensor, modulation: Tensor, gate: Int) -> (
        y: Tensor, modulation: Tensor
    )
    /// Element-wise minimum, and in the backward pass one where a is the smaller or equal one.
    func minimum(_ a: Tensor, _ b: Tensor) -> Tensor
    /// upstream where a <= b, else zero (`first`), or the complement.
    func minimumBackward(_ upstream: Tensor, _ a: Tensor, _ b: Tensor, first: Bool) -> Tensor
    /// Clamped to a range.
    func clamp(_ x: Tensor, low: Float, high: Float) -> Tensor
    /// upstream where low <= x <= high, else zero.
    func clampBackward(_ upstream: Tensor, input: Tensor, low: Float, high: Float) -> Tensor

    // MARK: Reduction

    /// Sum over leading rows: x [.., N] seen as [M, n] with n = trailing count -> [n], fp32.
    func sumRows(_ x: Tensor, trailing: Int) -> Tensor
    /// Mean of each of `rows` equal blocks -> fp32 [rows].
    func meanBlocks(_ x: Tensor, rows: Int) -> Tensor
    /// Every row's value repeated over its block: x [rows] -> shape, in dtype.
    func spread(_ x: Tensor, to shape: [Int], dtype: DType) -> Tensor
    /// Mean of the k largest of the last axis, [M, N] -> [M] fp32.
    func topMean(_ x: Tensor, count: Int) -> Tensor
    /// Its gradient.
    func topMeanBackward(_ upstream: Tensor, input: Tensor, count: Int) -> Tensor
    /// Mean, population standard deviation, maximum and minimum over axis 1: [B, N, D] -> [B, 4·D] fp32.
    func tokenStatistics(_ x: Tensor) -> Tensor

    // MARK: Layout

    /// Joined along an axis.
    func concatenate(_ parts: [Tensor], axis: Int) -> Tensor
    /// A range of an axis, copied.
    func slice(_ x: Tensor, axis: Int, range: Range<Int>) -> Tensor
    /// Zeros added along an axis.
    func padded(_ x: Tensor, axis: Int, before: Int, after: Int) -> Tensor
    /// Axes in another order.
    func transpose(_ x: Tensor, axes: [Int]) -> Tensor
    /// Each pixel four times: [B, H, W, C] -> [B, 2H, 2W, C].
    func upsampleNearest(_ x: Tensor) -> Tensor
    /// Sum of each 2 x 2 square, the gradient of `upsampleNearest`.
    func upsampleNearestBackward(_ upstream: Tensor) -> Tensor
    /// Rows of a table [V, D] -> [n, D].
    func gatherRows(_ table: Tensor, indices: [Int32]) -> Tensor
    /// Rows added into a table of zeros with `rowCount` rows, fp32.
    func scatterRows(_ rows: Tensor, indices: [Int32], rowCount: Int) -> Tensor
    /// Bicubic (a = -0.75, no antialias, half-pixel centres) as torch's `interpolate`: [B, H, W, C] -> [B, h, w, C].
    func resizeBicubic(_ x: Tensor, height: Int, width: Int) -> Tensor

    // MARK: Optimiser

    /// Sum of squares of all elements.
    func sumOfSquares(_ x: Tensor) -> Double
    /// One AdamW update of fp32 tensors.
    func adam(parameter: Tensor, gradient: Tensor, moment1: Tensor, moment2: Tensor, _ step: AdamStep)
        -> (parameter: Tensor, moment1: Tensor, moment2: Tensor)
}
