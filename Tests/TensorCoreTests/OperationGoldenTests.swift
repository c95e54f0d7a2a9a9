import TestSupport
import Testing

@testable import TensorCore

/// Every operation and its gradients against PyTorch in float64 (`ops.safetensors`), in PyTorch's layouts.
@Suite struct OperationGoldenTests {
    /// A case's inputs by name.
    typealias Inputs = [String: Tensor]

    private static func operation(_ name: String) -> (@Sendable (Inputs) -> Tensor)? {
        if let activation = activations[name] { return { $0["input"]!.activated(activation) } }
        return operations[name]
    }

    private static let activations: [String: Activation] = [
        "activation.gelu_tanh": .geluTanh, "activation.gelu_erf": .geluErf, "activation.quick_gelu": .quickGelu,
        "activation.silu": .silu, "activation.sigmoid": .sigmoid, "activation.tanh": .tanh,
        "activation.softplus": .softplus,
    ]

    private static func row(_ x: Tensor) -> Tensor { x.reshaped(x.shape[0], 1, x.shape[1]) }

    /// PyTorch's [B, C, H, W] through a function of channels last.
    private static func channelsLast(_ x: Tensor, _ body: (Tensor) -> Tensor) -> Tensor {
        body(x.transposed(0, 2, 3, 1)).transposed(0, 3, 1, 2)
    }

    private static func convolved(_ inputs: Inputs, _ geometry: ConvolutionGeometry) -> Tensor {
        channelsLast(inputs["input"]!) {
            convolution($0, weight: inputs["weight"]!, bias: inputs["bias"]!, geometry: geometry)
        }
    }

    private static func grouped(_ inputs: Inputs, silu: Bool) -> Tensor {
        channelsLast(inputs["input"]!) {
            groupNorm($0, groupCount: 4, weight: inputs["weight"]!, bias: inputs["bias"]!, epsilon: 1e-6, silu: silu)
        }
    }

    /// PyTorch's [B, heads, tokens, width] through [B, tokens, heads · width].
    private static func attended(_ inputs: Inputs, mask: AttentionMask = .none) -> Tensor {
        func joined(_ x: Tensor) -> Tensor {
            x.transposed(0, 2, 1, 3).reshaped(x.shape[0], x.shape[2], x.shape[1] * x.shape[3])
        }
        let query = inputs["query"]!
        let output = attention(
            joined(query), joined(inputs["key"]!), joined(inputs["value"]!), headCount: query.shape[1], mask: mask,
            bias: inputs["bias"].map { $0.detached.reshaped(Array($0.shape.dropFirst())) })
        return output.reshaped(query.shape[0], query.shape[2], query.shape[1], query.shape[3]).transposed(0, 2, 1, 3)
    }

    private static func resized(_ inputs: Inputs, _ height: Int, _ width: Int) -> Tensor {
        channelsLast(inputs["input"]!.detached) { $0.resizedBicubic(height: height, width: width) }
    }

    private static let operations: [String: @Sendable (Inputs) -> Tensor] = [
        "linear.bias": { linear($0["input"]!, weight: $0["weight"]!, bias: $0["bias"]!) },
        "linear.plain": { linear($0["input"]!, weight: $0["weight"]!) },
        "linear.gelu_tanh": { linear($0["input"]!, weight: $0["weight"]!, bias: $0["bias"]!, activation: .geluTanh) },
        "layer_norm.plain": { layerNorm($0["input"]!, epsilon: 1e-6) },
        "layer_norm.affine": { layerNorm($0["input"]!, weight: $0["weight"]!, bias: $0["bias"]!, epsilon: 1e-6) },
        "layer_norm.affine_1e-5": { layerNorm($0["input"]!, weight: $0["weight"]!, bias: $0["bias"]!, epsilon: 1e-5) },
        "layer_norm.modulate": {
            modulatedLayerNorm(
                $0["input"]!, modulation: concatenated([row($0["shift"]!), row($0["scale"]!)], axis: 1), shift: 0,
                scale: 1, epsilon: 1e-6)
        },
        "gate.residual": { $0["input"]!.adding($0["branch"]!, gatedBy: row($0["gate"]!), row: 0) },
        "rms_norm.weight": { rmsNorm($0["input"]!, weight: $0["weight"]!, epsilon: 1e-6) },
        "group_norm.affine": { grouped($0, silu: false) },
        "group_norm.silu": { grouped($0, silu: true) },
        "l2_normalize.plain": { $0["input"]!.unitNormalized() },
        "l2_normalize.epsilon": { $0["input"]!.unitNormalized(epsilon: 1e-6) },
        "conv2d.3x3": { convolved($0, .init(padding: 1)) },
        "conv2d.1x1": { convolved($0, .init(padding: 0)) },
        "conv2d.downsample": { convolved($0, .init(stride: 2, top: 0, left: 0, bottom: 1, right: 1)) },
        "conv2d.patchify": {
            linear(patchified($0["input"]!, patch: 2), weight: $0["weight"]!.reshaped(5, -1), bias: $0["bias"]!)
        },
        "unpatchify": { unpatchified($0["input"]!, patch: 2, height: 8, width: 6) },
        "upsample.nearest2x": { channelsLast($0["input"]!) { $0.upsampledNearest() } },
        "bicubic.up": { resized($0, 11, 13) },
        "bicubic.down": { resized($0, 4, 3) },
        "bicubic.same_ratio": { resized($0, 14, 12) },
        "attention.plain": { attended($0) },
        "attention.causal": { attended($0, mask: .causal) },
        "attention.bias": { attended($0) },
        "attention.cross": { attended($0) },
        "softmax.last": { $0["input"]!.softmax() },
        "bfloat16.round": { $0["input"]!.converted(to: .bfloat16).converted(to: .float32) },
    ]

    /// What is not differentiated: resizing, and the positions' bias of an attention.
    private static let constant = [
        "bicubic.up/input", "bicubic.down/input", "bicubic.same_ratio/input", "attention.bias/bias",
    ]
    /// Held elsewhere: the sinusoids by ImageModelsTests.
    private static let elsewhere = ["timestep_embedding.16", "timestep_embedding.256"]

    @Test("every case of the fixture: outputs and gradients are PyTorch's")
    func cases() throws {
        let golden = try Golden("ops.safetensors")
        let names = Set(golden.names().map { $0.split(separator: "/")[0] }.map(String.init)).sorted()
        #expect(names.count > 35)
        for engine in testEngines {
            for name in names where !Self.elsewhere.contains(name) {
                var inputs: Inputs = [:]
                let keys = golden.names(below: name + "/").filter {
                    !$0.hasPrefix("grad_") && $0 != "output" && $0 != "indices"
                }
                for key in keys {
                    let tensor = try golden.tensor("\(name)/\(key)", on: engine)
                    inputs[key] = golden.contains("\(name)/grad_\(key)") ? tensor.tracked() : tensor
                }
                let output: Tensor
                if name == "embedding" {
                    let indices = try golden.integers("embedding/indices").map(Int32.init)
                    output = inputs["weight"]!.gatheredRows(indices).reshaped(2, 5, 4)
                } else {
                    let operation = try #require(Self.operation(name), "\(name): no operation for this case")
                    output = operation(inputs)
                }
                let exact = name == "bfloat16.round"
                try expectClose(
                    output, golden, name + "/output", relative: exact ? 0 : 1e-5, absolute: exact ? 0 : 1e-5)
                guard golden.contains(name + "/grad_output") else { continue }
                let leaves = inputs.filter { !Self.constant.contains("\(name)/\($0.key)") }
                guard !leaves.isEmpty else { continue }
                let gradients = output.gradients(upstream: try golden.tensor(name + "/grad_output", on: engine))
                for (key, leaf) in leaves.sorted(by: { $0.key < $1.key }) where leaf.isTracked {
                    try expectClose(
                        gradients[leaf], golden, "\(name)/grad_\(key)", relative: 1e-5, absolute: 1e-5)
                }
            }
        }
    }
}
