import LibC
public import TensorCore

/// Sinusoids of a timestep: [cos(t f_i) ; sin(t f_i)], f_i = 10000^(-i / (width / 2)), cosines first.
///
/// - Parameters:
///   - timesteps: 1000 · sigma, fractional.
///   - width: even.
///   - engine: what computes.
/// - Returns: fp32 [timesteps.count, width].
/// - Source: diffusers models/embeddings.py, `get_timestep_embedding` with flip_sin_to_cos and no frequency shift.
public func timestepEmbedding(_ timesteps: [Float], width: Int, engine: any Engine) -> Tensor {
    precondition(width % 2 == 0, "timestepEmbedding: width \(width) is odd")
    let half = width / 2
    let frequencies = (0..<half).map { Float(exp(-log(10000.0) * Double($0) / Double(half))) }
    var values: [Float] = []
    values.reserveCapacity(timesteps.count * width)
    for timestep in timesteps {
        let angles = frequencies.map { Double(timestep * $0) }
        values += angles.map { Float(cos($0)) }
        values += angles.map { Float(sin($0)) }
    }
    return engine.tensor(values, shape: [timesteps.count, width])
}
