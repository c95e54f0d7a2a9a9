// Floating-point operations of the models as diffusers and timm define them: matrix products, convolutions and attention, two
// operations a multiplication with its addition. Normalisations, activations, softmax, sums and optimisers are not counted, nor
// is work that an implementation does besides (merging an adapter, recomputing scores in attention's backward pass) or saves.
//
// Legend: S image tokens, T text tokens, D width, r rank of an adapter, N output and K input features.

/// x Wᵀ of `rows` rows.
private func product(_ rows: Int, _ inner: Int, _ columns: Int) -> Int { 2 * rows * inner * columns }

/// q kᵀ and p v of all heads together.
private func attention(_ tokens: Int, _ width: Int) -> Int { 2 * product(tokens, width, tokens) }

/// Operations of one sample's forward pass and of its gradients.
public struct OperationCounts: Sendable, Equatable {
    /// Forward, without an adapter.
    public private(set) var forward = 0
    /// What training an adapter adds: its forward pass, its gradients, and those of the inputs of all that lies behind one.
    public private(set) var training = 0

    /// None yet.
    public init() {}

    /// A linear layer on `rows` rows.
    ///
    /// - Parameters:
    ///   - rank: r of its adapter; 0 without one.
    ///   - isBehind: whether its input depends on an adapter, so that the input's gradient is needed.
    public mutating func linear(_ rows: Int, _ input: Int, _ output: Int, rank: Int = 0, isBehind: Bool = false) {
        forward += product(rows, input, output)
        // x Aᵀ and its Bᵀ; gradients of B, of x Aᵀ, and of A.
        training += 3 * product(rows, rank, output) + 2 * product(rows, rank, input)
        if isBehind { training += product(rows, input, output) + product(rows, rank, input) }
    }

    /// An attention over `tokens` tokens, all heads together; its gradients are four products of the size of its two.
    ///
    /// - Parameter isBehind: whether its input depends on an adapter.
    public mutating func attend(_ tokens: Int, _ width: Int, isBehind: Bool) {
        forward += attention(tokens, width)
        if isBehind { training += 2 * attention(tokens, width) }
    }
}

extension MMDiTConfiguration {
    /// One velocity of `imageTokens` image and `textTokens` text tokens; an adapter of `rank` on the joint attention.
    public func operations(imageTokens S: Int, textTokens T: Int, rank: Int) -> OperationCounts {
        var counts = OperationCounts()
        let D = width
        for input in [256, pooledWidth] {
            counts.linear(1, input, D)
            counts.linear(1, D, D)
        }
        counts.linear(T, jointAttentionWidth, D)
        counts.linear(S, inChannels * patchSize * patchSize, D)
        for index in 0..<layerCount {
            let (isFirst, isLast) = (index == 0, index == layerCount - 1)
            let hasDual = dualAttentionLayers.contains(index)
            counts.linear(1, D, (hasDual ? 9 : 6) * D)
            counts.linear(1, D, (isLast ? 2 : 6) * D)
            for _ in 0..<3 {
                counts.linear(S, D, D, rank: rank, isBehind: !isFirst)
                counts.linear(T, D, D, rank: rank, isBehind: !isFirst)
            }
            counts.attend(S + T, D, isBehind: true)
            counts.linear(S, D, D, rank: rank, isBehind: true)
            if !isLast { counts.linear(T, D, D, rank: rank, isBehind: true) }
            if hasDual {
                for _ in 0..<4 { counts.linear(S, D, D, isBehind: !isFirst) }
                counts.attend(S, D, isBehind: !isFirst)
            }
            for rows in isLast ? [S] : [S, T] {
                counts.linear(rows, D, 4 * D, isBehind: true)
                counts.linear(rows, 4 * D, D, isBehind: true)
            }
        }
        counts.linear(1, D, 2 * D)
        counts.linear(S, D, outChannels * patchSize * patchSize, isBehind: true)
        return counts
    }
}

extension AutoencoderKLConfiguration {
    /// Decoding one image of `height` x `width` latents.
    public func decoderOperations(height: Int, width: Int) -> Int {
        var area = height * width
        func convolution(_ input: Int, _ output: Int, kernel: Int = 3) -> Int {
            product(area, input * kernel * kernel, output)
        }
        func block(_ input: Int, _ output: Int) -> Int {
            convolution(input, output) + convolution(output, output)
                + (input == output ? 0 : convolution(input, output, kernel: 1))
        }
        let channels = Array(blockChannels.reversed())
        let inner = channels[0]
        var sum = convolution(latentChannels, inner) + 2 * block(inner, inner)
        if usesPostQuantConvolution { sum += convolution(latentChannels, latentChannels, kernel: 1) }
        if hasMidAttention { sum += 4 * product(area, inner, inner) + attention(area, inner) }
        for (index, output) in channels.enumerated() {
            sum += block(channels[max(0, index - 1)], output) + layersPerBlock * block(output, output)
            guard index + 1 < channels.count else { break }
            area *= 4
            sum += convolution(output, output)
        }
        return sum + convolution(channels[channels.count - 1], outChannels)
    }
}

extension DINOv2Configuration {
    /// Features of one image.
    public var operations: Int {
        let patches = gridSize * gridSize
        let tokens = prefixCount + patches
        let feedForward = product(tokens, width, feedForwardWidth)
        let block =
            4 * product(tokens, width, width) + attention(tokens, width) + (usesSwiGLU ? 3 : 2) * feedForward
        return product(patches, 3 * patchSize * patchSize, width) + layerCount * block
    }
}
