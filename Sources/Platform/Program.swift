/// What the program says of itself.
package enum Program {
    /// The version, as semantic versioning counts: that of CHANGELOG.md's newest section. `advgrpo --version`, a snapshot's
    /// `run.json` and the report say it.
    package static let version = "0.4.0"
}
