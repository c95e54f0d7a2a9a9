internal import LibC

/// `~` and `~NAME` at the beginning of a path, which a shell expands only where it sees them: not in `--option=~/x`, not in quotes,
/// not in a settings file.
package enum HomeFolder {
    /// A path with its home folder written out; other paths as they are. A file that is really named so is `./~`.
    ///
    /// - Throws: `noSuchUser`; no folder named `~` is ever made.
    package static func expanded(_ path: String) throws(FileError) -> String {
        guard path.hasPrefix("~") else { return path }
        let name = path.dropFirst().prefix { $0 != "/" }
        guard let home = name.isEmpty ? own : folder(getpwnam(String(name))) else {
            throw FileError(path, .noSuchUser)
        }
        return home + path.dropFirst(1 + name.count)
    }

    /// `HOME`, as a shell has it, else what the system knows.
    private static var own: String? {
        if let home = getenv("HOME"), home.pointee != 0 { return String(cString: home) }
        return folder(getpwuid(geteuid()))
    }

    private static func folder(_ entry: UnsafeMutablePointer<passwd>?) -> String? {
        entry?.pointee.pw_dir.map { String(cString: $0) }
    }
}
