import Platform

/// Files that are either wholly there or not at all, also after a power cut.
public enum DurableFile {
    /// Writes `pieces` one after the other to a temporary name in the same folder, syncs, renames over `path` and syncs
    /// the folder.
    ///
    /// - Throws: `inputOutput`; the old file, if there was one, is untouched then and the temporary one is removed.
    public static func write(_ pieces: [SharedBytes], to path: String) throws(SafeTensorsError) {
        try Files<SafeTensorsError>.replace(path) { (file) throws(SafeTensorsError) in
            for piece in pieces {
                try piece.withUnsafeBytes { (bytes) throws(SafeTensorsError) in try file.write(bytes) }
            }
        }
    }
}
