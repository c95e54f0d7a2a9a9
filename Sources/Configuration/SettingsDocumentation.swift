internal import AdvGRPO

extension Settings {
    /// The text of docs/settings.md: every key with type, unit, accepted values, preset defaults, meaning and source.
    public static func documentation() -> String {
        let presets = Fidelity.allCases.map { fidelity in
            var settings = Settings(fidelity: fidelity)
            settings.method.rewardProcesses[SettingDescription.anyName] = RewardProcess()
            return settings.tree()
        }
        var text = """
            # Settings

            A run is described by one YAML file, for example `deploy/settings/emoji.yaml`. Keys that it leaves out take the
            default of the preset named by `fidelity`; `--set key.path=value` overrides the file. Unknown keys, wrong types
            and values out of range are errors, all reported at once. Paths are taken from the working directory.
            `settings.yaml` in the run directory holds all keys as the run used them; its SHA-256 is the run's settings
            digest. This page is generated from the declarations in `Sources/AdvGRPO/MethodSettings*.swift` and
            `Sources/Configuration/Settings*.swift`, and a test keeps it so (`ADVGRPO_WRITE_DOCS=1 swift test --filter
            SettingsDocumentation` rewrites it). Sources name sections of the method description; `own` is a choice of
            this implementation, `measured` one that a measurement led to. Where the presets differ, the default column
            lists released / paper / fixed.

            """
        var group: String?
        for key in keys.map(\.description) {
            let parts = key.path.split(separator: ".")
            let heading = parts.count > 1 ? String(parts[0]) : "Top level"
            if heading != group {
                text += "\n## \(heading)\n\n"
                text += "| key | accepted | unit | default | meaning | source |\n|---|---|---|---|---|---|\n"
                group = heading
            }
            let defaults = presets.map { $0[parts]?.yaml ?? "" }
            let shown =
                Set(defaults).count == 1 ? "`\(defaults[0])`" : defaults.map { "`\($0)`" }.joined(separator: " / ")
            text += "| `\(key.path)` | \(key.range) | \(key.unit) | \(shown) | \(key.meaning) | \(key.source) |\n"
        }
        return text
    }
}
