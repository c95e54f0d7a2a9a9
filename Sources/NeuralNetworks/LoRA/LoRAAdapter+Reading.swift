import Platform
import SafeTensors
public import TensorCore

extension LoRAAdapter {
    /// Reads a PEFT folder (or its `adapter_model.safetensors`), or a file or folder of diffusers
    /// (`pytorch_lora_weights.safetensors`), ComfyUI, OneTrainer or kohya's trainer.
    ///
    /// Rank, alpha and their patterns mean what they do in PEFT. A file beside no configuration takes them from its header, else
    /// alphas from its `.alpha` tensors; one without any has alpha = r in every layer, as in diffusers.
    ///
    /// - Throws: `ModelError`, `SafeTensorsError`.
    public init(path: String, engine: any Engine) throws {
        let isFolder = Files<ModelError>.isFolder(path)
        if isFolder, Files<ModelError>.exists(path + "/adapter/adapter_config.json") {
            throw ModelError(
                code: .configuration, source: path, message: "is a run's snapshot, not an adapter; name \(path)/adapter"
            )
        }
        let folder = isFolder ? path : Files<ModelError>.parent(of: path)
        let configuration = folder + "/adapter_config.json"
        let isPEFT =
            Files<ModelError>.exists(configuration) && (isFolder || path.hasSuffix("adapter_model.safetensors"))
        let weights = isPEFT ? folder + "/adapter_model.safetensors" : path
        if isPEFT, !Files<ModelError>.exists(weights), Files<ModelError>.exists(folder + "/adapter_model.bin") {
            let pickle = folder + "/adapter_model.bin"
            throw ModelError(
                code: .unsupported, source: pickle,
                message: "is a PyTorch pickle, which can run code when read, and is not opened; convert it where it is "
                    + "trusted: python3 -c \"import torch, safetensors.torch as s; "
                    + "s.save_file(torch.load('\(pickle)', weights_only=True), '\(weights)')\"")
        }
        let file = try SafeTensorsFolder(path: weights)
        try LoRAAdapter.checkTensors(of: file, source: weights)
        let entries =
            isPEFT
            ? try LoRAEntries(path: configuration) : try LoRAEntries(header: file.metadata, source: weights)
        let scaling = try entries?.scaling()
        if !isPEFT, scaling == nil, file.entries.contains(where: { $0.name.hasPrefix("base_model.model.") }) {
            throw ModelError(
                code: .missing, source: weights,
                message: "is PEFT's file without adapter_config.json, which holds its alpha; put both into one folder")
        }
        let tensors = try LoRATensors(Parameters(path: weights, engine: engine), source: weights)
        if scaling != nil, let layer = tensors.alphas.keys.sorted().first {
            throw ModelError(
                code: .unsupported, source: weights,
                message: "has an alpha for \(layer) as a tensor and another as an entry; remove one of them")
        }
        try self.init(parameters: tensors.factors, source: weights) { layer, rank throws(ModelError) in
            if let scaling { return try scaling.alpha(of: layer, rank: rank, source: weights) }
            return tensors.alphas[layer] ?? Double(rank)
        }
    }

    /// Refuses what a training leaves that did not gather its parameters before saving.
    private static func checkTensors(of file: SafeTensorsFolder, source: String) throws(ModelError) {
        let remedy =
            "it was saved without its weights; gather them (DeepSpeed ZeRO-3 does not by itself) and save again"
        guard !file.entries.isEmpty else {
            throw ModelError(code: .missing, source: source, message: "holds no tensors; \(remedy)")
        }
        for entry in file.entries where entry.shape.contains(0) {
            throw ModelError(
                code: .missing, source: source, message: "tensor \(entry.name.prefix(200)) is empty; \(remedy)")
        }
    }
}
