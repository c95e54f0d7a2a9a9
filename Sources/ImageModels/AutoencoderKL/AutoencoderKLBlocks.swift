import NeuralNetworks
import TensorCore

// Port of diffusers models/resnet.py (ResnetBlock2D), attention_processor.py (Attention with group_norm and residual),
// downsampling.py, upsampling.py, unets/unet_2d_blocks.py and autoencoders/vae.py. Differences: channels last.
//
// Legend: B batch, H, W size, C channels.

private let epsilon: Float = 1e-6

/// x + conv2(SiLU(norm2(conv1(SiLU(norm1(x)))))), with a 1 x 1 convolution on x where the channels change.
struct ResidualBlock {
    let norm1: GroupNorm, norm2: GroupNorm
    let convolution1: Convolution, convolution2: Convolution
    let shortcut: Convolution?

    init(_ weights: Weights, input: Int, output: Int, groups: Int) throws {
        norm1 = try GroupNorm(weights.scoped("norm1"), groupCount: groups, channels: input, epsilon: epsilon)
        convolution1 = try Convolution(
            weights.scoped("conv1"), input: input, output: output, kernel: 3, geometry: .same)
        norm2 = try GroupNorm(weights.scoped("norm2"), groupCount: groups, channels: output, epsilon: epsilon)
        convolution2 = try Convolution(
            weights.scoped("conv2"), input: output, output: output, kernel: 3, geometry: .same)
        shortcut =
            input == output
            ? nil
            : try Convolution(
                weights.scoped("conv_shortcut"), input: input, output: output, kernel: 1, geometry: .init(padding: 0))
    }

    func callAsFunction(_ x: Tensor) -> Tensor {
        let hidden = convolution1(norm1(x, silu: true))
        return (shortcut?(x) ?? x) + convolution2(norm2(hidden, silu: true))
    }
}

/// Single-head attention over all positions, added to its input.
struct SpatialAttention {
    let norm: GroupNorm
    let query: Linear, key: Linear, value: Linear, output: Linear

    init(_ weights: Weights, channels: Int, groups: Int) throws {
        func projection(_ name: String) throws -> Linear {
            try Linear(weights.scoped(name), input: channels, output: channels)
        }
        norm = try GroupNorm(weights.scoped("group_norm"), groupCount: groups, channels: channels, epsilon: epsilon)
        query = try projection("to_q")
        key = try projection("to_k")
        value = try projection("to_v")
        output = try projection("to_out.0")
    }

    func callAsFunction(_ x: Tensor) -> Tensor {
        let tokens = norm(x).reshaped(x.shape[0], x.shape[1] * x.shape[2], x.shape[3])
        let attended = attention(query(tokens), key(tokens), value(tokens), headCount: 1)
        return x + output(attended).reshaped(x.shape)
    }
}

/// Residual block, attention where configured, residual block.
struct MidBlock {
    let first: ResidualBlock, second: ResidualBlock
    let attention: SpatialAttention?

    init(_ weights: Weights, _ configuration: AutoencoderKLConfiguration, channels: Int) throws {
        let groups = configuration.groupCount
        first = try ResidualBlock(weights.scoped("resnets.0"), input: channels, output: channels, groups: groups)
        second = try ResidualBlock(weights.scoped("resnets.1"), input: channels, output: channels, groups: groups)
        attention =
            configuration.hasMidAttention
            ? try SpatialAttention(weights.scoped("attentions.0"), channels: channels, groups: groups) : nil
    }

    func callAsFunction(_ x: Tensor) -> Tensor {
        let hidden = first(x)
        return second(attention?(hidden) ?? hidden)
    }
}

/// Residual blocks of one level, then a change of size except at the last one.
struct Level {
    enum Change {
        case none
        /// Stride 2, zeros at bottom and right.
        case down(Convolution)
        /// Nearest neighbour times two, then a convolution.
        case up(Convolution)
    }
    let blocks: [ResidualBlock]
    let change: Change

    init(_ weights: Weights, input: Int, output: Int, count: Int, groups: Int, isDown: Bool, isLast: Bool) throws {
        blocks = try (0..<count).map {
            try ResidualBlock(
                weights.scoped("resnets.\($0)"), input: $0 == 0 ? input : output, output: output, groups: groups)
        }
        if isLast {
            change = .none
        } else if isDown {
            change = .down(
                try Convolution(
                    weights.scoped("downsamplers.0.conv"), input: output, output: output, kernel: 3,
                    geometry: .init(stride: 2, top: 0, left: 0, bottom: 1, right: 1)))
        } else {
            change = .up(
                try Convolution(
                    weights.scoped("upsamplers.0.conv"), input: output, output: output, kernel: 3, geometry: .same))
        }
    }

    func callAsFunction(_ x: Tensor) -> Tensor {
        let hidden = blocks.reduce(x) { $1($0) }
        switch change {
        case .none: return hidden
        case .down(let convolution): return convolution(hidden)
        case .up(let convolution): return convolution(hidden.upsampledNearest())
        }
    }
}

/// Image -> moments.
struct ImageEncoder {
    let input: Convolution
    let levels: [Level]
    let mid: MidBlock
    let norm: GroupNorm
    let output: Convolution

    init(_ weights: Weights, _ configuration: AutoencoderKLConfiguration) throws {
        let channels = configuration.blockChannels
        let inner = channels[channels.count - 1]
        input = try Convolution(
            weights.scoped("conv_in"), input: configuration.inChannels, output: channels[0], kernel: 3, geometry: .same)
        levels = try channels.indices.map {
            try Level(
                weights.scoped("down_blocks.\($0)"), input: channels[max(0, $0 - 1)], output: channels[$0],
                count: configuration.layersPerBlock, groups: configuration.groupCount, isDown: true,
                isLast: $0 == channels.count - 1)
        }
        mid = try MidBlock(weights.scoped("mid_block"), configuration, channels: inner)
        norm = try GroupNorm(
            weights.scoped("conv_norm_out"), groupCount: configuration.groupCount, channels: inner, epsilon: epsilon)
        output = try Convolution(
            weights.scoped("conv_out"), input: inner, output: 2 * configuration.latentChannels, kernel: 3,
            geometry: .same)
    }

    func callAsFunction(_ x: Tensor) -> Tensor {
        output(norm(mid(levels.reduce(input(x)) { $1($0) }), silu: true))
    }
}

/// Latents -> image.
struct ImageDecoder {
    let input: Convolution
    let mid: MidBlock
    let levels: [Level]
    let norm: GroupNorm
    let output: Convolution

    init(_ weights: Weights, _ configuration: AutoencoderKLConfiguration) throws {
        let channels = Array(configuration.blockChannels.reversed())
        let outer = channels[channels.count - 1]
        input = try Convolution(
            weights.scoped("conv_in"), input: configuration.latentChannels, output: channels[0], kernel: 3,
            geometry: .same)
        mid = try MidBlock(weights.scoped("mid_block"), configuration, channels: channels[0])
        levels = try channels.indices.map {
            try Level(
                weights.scoped("up_blocks.\($0)"), input: channels[max(0, $0 - 1)], output: channels[$0],
                count: configuration.layersPerBlock + 1, groups: configuration.groupCount, isDown: false,
                isLast: $0 == channels.count - 1)
        }
        norm = try GroupNorm(
            weights.scoped("conv_norm_out"), groupCount: configuration.groupCount, channels: outer, epsilon: epsilon)
        output = try Convolution(
            weights.scoped("conv_out"), input: outer, output: configuration.outChannels, kernel: 3, geometry: .same)
    }

    func callAsFunction(_ z: Tensor) -> Tensor {
        output(norm(levels.reduce(mid(input(z))) { $1($0) }, silu: true))
    }
}

extension ConvolutionGeometry {
    /// 3 x 3 with the size kept.
    static let same = ConvolutionGeometry(padding: 1)
}
