import TensorCore

extension FeatureTable {
    /// What heads read of images that differ a little from these: normal noise on every feature, in units of its own deviation over
    /// the images and their tokens. What an image is compared with, and what it is to show, stays as it is.
    ///
    /// - Parameters:
    ///   - deviation: the noise's, in those units.
    ///   - stream: of the n-th tensor in the order of names.
    func perturbed(by deviation: Float, stream: (_ number: Int) -> Philox) -> FeatureTable {
        var perturbed = tensors
        let names = tensors.keys.filter {
            !$0.hasSuffix(othersSuffix) && !$0.hasSuffix(centreSuffix) && $0 != promptFeature
        }.sorted()
        for (number, name) in names.enumerated() {
            let tensor = self[name]
            let (values, width) = (tensor.values, tensor.size(-1))
            let deviations = (0..<width).map { feature in
                Float(Moments(stride(from: feature, to: values.count, by: width).map { Double(values[$0]) }).deviation)
            }
            let noise = stream(number).normals(values.count)
            let near = values.indices.map { values[$0] + deviation * deviations[$0 % width] * noise[$0] }
            perturbed[name] = tensor.engine.tensor(near, shape: tensor.shape)
        }
        return FeatureTable(perturbed)
    }
}
