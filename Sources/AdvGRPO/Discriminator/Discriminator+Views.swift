import TensorCore

/// Augmented views of images, for heads that train on them.
///
/// Features are kept, so an image is not augmented anew in every step: it has some views, drawn once, and a step draws one of
/// them. A view costs one pass of the backbone and one more row of features; a reference has the same views all run long. Where
/// the backbone is trained as well, all heads that read it see the view.
extension Discriminator {
    /// A table with the views of its images beside what it has: `FEATURE.views` [B, K, ...]. The table itself where no head
    /// trains on views.
    ///
    /// - Parameters:
    ///   - table: features of the same images for training.
    ///   - images_BHWC: [B, H, W, 3] in [0, 1]; all of a prompt's references, or all of a group.
    ///   - prompt: the images' prompt, a coordinate of what is drawn.
    func addingViews(
        to table: FeatureTable, of images_BHWC: Tensor, prompt: String, networks: FrozenNetworks
    ) -> FeatureTable {
        var tensors = table.tensors
        for head in heads where head.viewCount > 0 {
            guard let blocks = head.blocks else { continue }
            let views = self.views(of: images_BHWC, prompt: prompt, count: head.viewCount)
            let read =
                tuned == nil
                ? head.extract(
                    FrozenFeatures(
                        images_BHWC: views, backbone: networks.backbone(views, blocks, .training), trunk: nil))
                : frozenStates(of: views, purpose: .training, networks: networks)
            for (name, tensor) in read {
                let B = images_BHWC.shape[0]
                tensors[name + viewSuffix] = tensor.detached.converted(to: .float32)
                    .reshaped([B, head.viewCount] + tensor.shape.dropFirst())
            }
        }
        return FeatureTable(tensors)
    }

    /// Some views of each image, those of the first image first: [B · K, H, W, 3].
    private func views(of images_BHWC: Tensor, prompt: String, count: Int) -> Tensor {
        let (B, H, W) = (images_BHWC.shape[0], images_BHWC.shape[1], images_BHWC.shape[2])
        let engine = images_BHWC.engine
        // Values of the images and of their views.
        engine.passing(4 * images_BHWC.count * (1 + count))
        guard engine.computes else { return engine.zeros([B * count, H, W, 3]) }
        let (values, size) = (images_BHWC.values, H * W * 3)
        let name = Int(checksum(prompt))
        var views: [Float] = []
        views.reserveCapacity(B * count * size)
        for image in 0..<B {
            for view in 0..<count {
                let stream = Philox(seed: seed, purpose: .augmentation, name, image, view)
                views += ImageAugmentation(stream, height: H, width: W)(
                    values[image * size..<(image + 1) * size], height: H, width: W)
            }
        }
        return engine.tensor(views, shape: [B * count, H, W, 3])
    }

    /// FNV-1a over a text's UTF-8 bytes: 32 bits that are the same everywhere.
    private func checksum(_ text: String) -> UInt32 {
        text.utf8.reduce(0x811C_9DC5) { ($0 ^ UInt32($1)) &* 0x0100_0193 }
    }
}

extension FeatureTable {
    /// What a step trains on: in place of each feature that has views, one view an image, drawn from the image's stream.
    func withViews(drawnBy draws: PatchDraws) -> FeatureTable {
        var shown = tensors.filter { !$0.key.hasSuffix(viewSuffix) }
        for (name, views) in tensors where name.hasSuffix(viewSuffix) {
            let (B, K) = (views.shape[0], views.shape[1])
            shown[String(name.dropLast(viewSuffix.count))] = views.reshaped(B * K, -1)
                .gatheredRows(draws.rows(count: 1, of: K)).reshaped([B] + views.shape.dropFirst(2))
        }
        return FeatureTable(shown)
    }
}

private let viewSuffix = ".views"
