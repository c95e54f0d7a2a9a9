import NeuralNetworks
import Platform
import SafeTensors

/// A model in one file, where a pipeline is a folder.
enum SingleFile {
    /// `refuse` for the pipeline that a part belongs to, `FILE/vae` for example.
    static func refuse(above part: String) throws {
        guard let slash = part.lastIndex(of: "/") else { return }
        try refuse(String(part[..<slash]))
    }

    /// Refuses a file in the place of a pipeline's folder, with the command that makes the folder of it.
    ///
    /// - Throws: `unsupported`; `SafeTensorsError` when the file is no weights file.
    static func refuse(_ path: String) throws {
        guard Files<ModelError>.exists(path), !Files<ModelError>.isFolder(path) else { return }
        let names = try SafeTensorsFile(path: path).entries.map(\.name)
        let isStability = names.contains { $0.contains("joint_blocks.0.") }
        throw ModelError(
            code: .unsupported, source: path,
            message: "is \(isStability ? "a single-file checkpoint of Stable Diffusion 3" : "a file"), not a folder as "
                + "diffusers saves a pipeline; convert it and name the folder: python3 -c \"from diffusers import "
                + "StableDiffusion3Pipeline as P; P.from_single_file('\(path)').save_pretrained('FOLDER')\"")
    }
}
