import TensorCore

/// The tensors of an adapter's file under the model's names: a matrix A and a matrix B for each layer, and alphas.
struct LoRATensors {
    /// `LAYER.lora_A.weight` [r, K] and `LAYER.lora_B.weight` [N, r].
    let factors: Parameters
    /// The alphas that the file has as tensors.
    let alphas: [String: Double]

    /// - Throws: `unsupported` or `missing` naming a tensor that is no part of a layer's pair, `usedTwice` where two mean the same.
    init(_ file: Parameters, source: String) throws(ModelError) {
        struct Part {
            let name: String
            let tensor: Tensor
            let rows: LayerRows
            let index: Int
        }
        var layers: [String: [LoRAWeightNames.Role: Part]] = [:]
        for (name, tensor) in file.entries {
            let place = try LoRAWeightNames.resolve(name, source: source)
            for (index, layer) in place.layers.enumerated() {
                if let other = layers[layer]?[place.role] {
                    throw ModelError(
                        code: .usedTwice, source: source,
                        message:
                            "tensors \(other.name) and \(name) are both \(place.role.rawValue) of \(layer); remove one")
                }
                layers[layer, default: [:]][place.role] = Part(
                    name: name, tensor: tensor, rows: place.rows, index: index)
            }
        }
        var factors: [String: Tensor] = [:]
        var alphas: [String: Double] = [:]
        for (layer, parts) in layers.sorted(by: { $0.key < $1.key }) {
            guard let down = parts[.down], let up = parts[.up] else {
                let name = (parts[.down] ?? parts[.up] ?? parts[.alpha])?.name ?? layer
                throw ModelError(
                    code: .missing, source: source,
                    message: "tensor \(name) is not one of a pair of lora_A and lora_B; the file is not whole")
            }
            let (downMatrix, upMatrix) = (Self.matrix(down.tensor), Self.matrix(up.tensor))
            guard let downMatrix, let upMatrix, downMatrix.shape[0] == upMatrix.shape[1],
                up.rows != .thirds || upMatrix.shape[0].isMultiple(of: 3)
            else {
                throw ModelError(
                    code: .wrongShape, source: source,
                    message: "\(down.name) is \(down.tensor.shape) and \(up.name) is \(up.tensor.shape), "
                        + "expected [r, inputs] and [outputs, r]")
            }
            factors[layer + downSuffix] = downMatrix
            factors[layer + upSuffix] = Self.rows(of: upMatrix, up.rows, index: up.index, inputs: downMatrix.shape[1])
            if let alpha = parts[.alpha] {
                guard alpha.tensor.count == 1, LoRAAdapter.alphas.contains(Double(alpha.tensor.values[0])) else {
                    throw ModelError(
                        code: .configuration, source: source,
                        message:
                            "tensor \(alpha.name) is \(alpha.tensor.count == 1 ? "\(alpha.tensor.values[0])" : "\(alpha.tensor.shape)"), "
                            + "expected one number above 0 and at most \(ConfigurationFile.largestSize)")
                }
                alphas[layer] = Double(alpha.tensor.values[0])
            }
        }
        self.factors = Parameters(factors)
        self.alphas = alphas
    }

    /// A factor as a matrix: that of a convolution has its kernel's elements in a row.
    private static func matrix(_ tensor: Tensor) -> Tensor? {
        switch tensor.rank {
        case 2: tensor
        case 4: tensor.reshaped([tensor.shape[0], tensor.count / tensor.shape[0]])
        default: nil
        }
    }

    private static func rows(of up: Tensor, _ rows: LayerRows, index: Int, inputs: Int) -> Tensor {
        let count = up.shape[0]
        switch rows {
        case .thirds: return up.rows(count / 3 * index..<count / 3 * (index + 1))
        case .modulation where count == 2 * inputs:
            return concatenated([up.rows(inputs..<count), up.rows(0..<inputs)], axis: 0)
        case .whole, .modulation: return up
        }
    }
}
