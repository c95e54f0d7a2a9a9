import Foundation
import TestSupport
import Testing

/// docs/architecture.md, `Package.swift` and the imports say the same.
@Suite("Architecture")
struct ArchitectureTests {
    @Test("every module has its floor, and imports what it declares from below")
    func floors() throws {
        let architecture = try Architecture()
        #expect(architecture.problems == [])
        #expect(
            architecture.floors.map(\.name) == ["platform", "tensors", "models", "method", "wire", "roles", "command"])
        #expect(architecture.imports.count > 12 && architecture.dependencies.count > 20)
    }

    @Test("an import against its floor, one that is not declared and a module without a floor are found")
    func violations() {
        let house = Architecture(
            floors: [("ground", ["A", "B"]), ("roof", ["C"])],
            dependencies: ["A": [], "B": ["A"], "C": ["B"], "D": []],
            imports: ["A": ["C": "A.swift"], "B": ["A": "B.swift"], "C": ["A": "C.swift", "D": "C.swift"]])
        #expect(
            house.problems == [
                "A.swift imports C, which A does not declare", "A.swift imports C, which is above A",
                "C.swift imports D, which C does not declare", "D is not on one floor, or no module",
            ])
    }

    @Test("a relay links no engine, models or settings of the method")
    func relay() throws {
        let linked = try Architecture().reachable(from: "Relay")
        #expect(linked.isSuperset(of: ["Processes", "Protocol", "Transport", "WeightsTransfer"]))
        #expect(linked.isDisjoint(with: ["TensorCore", "NeuralNetworks", "AdvGRPO", "Configuration", "Raster"]))
    }

    @Test("dependencies are read from a package as they are written there")
    func package() {
        let text = """
            targets: [
                system("CLib", apt: "b-dev", brew: "b"),
                module("A", []),
                module(
                    "B",
                    ["A", .product(name: "A", package: "C"), "CLib"]),
                .executableTarget(name: "C", dependencies: ["B", "Other"]),
                .target(name: "Help", dependencies: ["A"], path: "Tests/Help"),
                tests("A", ["C"]),
            ]
            """
        let expected: [String: Set<String>] = ["A": [], "B": ["A", "CLib"], "C": ["B"], "CLib": []]
        #expect(Architecture.dependencies(inPackage: text) == expected)
    }

    @Test("the drawing is the package's")
    func drawing() throws {
        let drawing = try Architecture().drawing
        let path = Repository.path + "/docs/architecture.md"
        let parts = try Document.text("docs/architecture.md").components(separatedBy: "```")
        try #require(parts.count == 3, "one drawing")
        if ProcessInfo.processInfo.environment["ADVGRPO_WRITE_DOCS"] != nil {
            let page = [parts[0], "text\n\(drawing)\n", parts[2]].joined(separator: "```")
            try Data(page.utf8).write(to: URL(fileURLWithPath: path))
        } else {
            #expect(parts[1] == "text\n\(drawing)\n", "draw it again with ADVGRPO_WRITE_DOCS=1")
        }
    }

    @Test("the way of a prompt passes functions that exist")
    func way() throws {
        let sources = try Document.files(below: "Sources").filter { $0.hasSuffix(".swift") }.map(Document.text)
        let rows = try Document.text("docs/architecture.md").components(separatedBy: "## The way of one prompt")[1]
        let steps = rows.matches(of: #/`(\w+)\.(\w+)`/#).map { (type: String($0.1), function: String($0.2)) }
        #expect(steps.count > 25)
        for step in steps {
            #expect(exists(step.function, of: step.type, in: sources), "\(step.type).\(step.function)")
        }
        #expect(!exists("lease", of: "Epoch", in: sources) && !exists("trains", of: "Epoch", in: sources))
    }

    /// Whether a file that declares or extends a type has a function of this name.
    private func exists(_ function: String, of type: String, in sources: [String]) -> Bool {
        let kinds = ["struct", "class", "enum", "actor", "extension", "protocol"]
        return sources.contains { text in
            kinds.contains { kind in
                text.contains("\(kind) \(type) ") || text.contains("\(kind) \(type):")
                    || text.contains("\(kind) \(type)<")
            }
                && (text.contains("func \(function)(") || text.contains("func \(function)<")
                    || function == "init" && text.contains("init("))
        }
    }
}
