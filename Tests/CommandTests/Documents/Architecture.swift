import Foundation
import TestSupport

/// The modules of the product: what `Package.swift` declares, what the sources import, what docs/architecture.md draws.
struct Architecture: Sendable {
    /// Floors from the ground up, each with its modules in the order in which they may build on each other.
    var floors: [(name: String, modules: [String])]
    /// Direct dependencies of every module that has a folder in `Sources`, as the package declares them.
    var dependencies: [String: Set<String>]
    /// Modules of the product that a module's files import, with one of these files.
    var imports: [String: [String: String]]

    /// The repository's.
    init() throws {
        let page = try Document.text("docs/architecture.md")
        floors = []
        for row in page.components(separatedBy: "\n") {
            guard let match = row.firstMatch(of: #/^\| (\w+) \| \[/#) else { continue }
            let modules = row.matches(of: #/\[(\w+)\]\(\.\./Sources/#).map { String($0.1) }
            if floors.last?.name == String(match.1) {
                floors[floors.count - 1].modules += modules
            } else {
                floors.append((String(match.1), modules))
            }
        }
        dependencies = Self.dependencies(inPackage: try Document.text("Package.swift"))
        let line =
            #/(?m)^ *(?:@\w+(?:\(\w+\))? )*(?:(?:public|package|internal|fileprivate|private) )?import (?:(?:struct|class|enum|protocol|func|let) )?(\w+)/#
        imports = [:]
        for name in Document.files(below: "Sources") where name.hasSuffix(".swift") {
            let folders = name.components(separatedBy: "/")
            guard let module = folders.first(where: { dependencies[$0] != nil }) else { continue }
            for match in try Document.text(name).matches(of: line) where dependencies[String(match.1)] != nil {
                imports[module, default: [:]][String(match.1)] = name
            }
        }
    }

    init(
        floors: [(name: String, modules: [String])], dependencies: [String: Set<String>],
        imports: [String: [String: String]]
    ) {
        (self.floors, self.dependencies, self.imports) = (floors, dependencies, imports)
    }

    /// What a package's text declares: the product's modules, each with those of them that it depends on.
    static func dependencies(inPackage text: String) -> [String: Set<String>] {
        let declaration =
            #/(?:module|system|tests|testTarget|executableTarget|target|systemLibrary)\(\s*(?:name: )?"([\w-]+)"/#
        let marks = text.matches(of: declaration)
        var named: [String: Set<String>] = [:]
        for (index, mark) in marks.enumerated() where !mark.0.hasPrefix("test") {
            let end = index + 1 < marks.count ? marks[index + 1].range.lowerBound : text.endIndex
            let declared = text[mark.range.upperBound..<end].replacing(#/\.product\([^)]*\)/#, with: "")
            if declared.contains("path: \"Tests/") { continue }
            named[String(mark.1)] = Set(declared.matches(of: #/"(\w+)"/#).map { String($0.1) })
        }
        return named.mapValues { $0.intersection(named.keys) }
    }

    /// What disagrees: modules without a floor or without a declaration, imports that are not declared or go up.
    var problems: [String] {
        let order = floors.flatMap(\.modules)
        var problems = Set(order).symmetricDifference(dependencies.keys).map {
            "\($0) is not on one floor, or no module"
        }
        if Set(order).count != order.count { problems.append("a module is on two floors") }
        for (module, names) in dependencies {
            problems += names.filter { !isBelow($0, module, order) }.map {
                "\(module) depends on \($0), which is above it"
            }
        }
        for (module, names) in imports {
            let declared = reachable(from: module)
            for (name, file) in names where name != module {
                if !isBelow(name, module, order) {
                    problems.append("\(file) imports \(name), which is above \(module)")
                }
                if !declared.contains(name) {
                    problems.append("\(file) imports \(name), which \(module) does not declare")
                }
            }
        }
        return problems.sorted()
    }

    private func isBelow(_ name: String, _ module: String, _ order: [String]) -> Bool {
        guard let a = order.firstIndex(of: name), let b = order.firstIndex(of: module) else { return true }
        return a < b
    }

    /// Everything that a module's declared dependencies bring with them.
    func reachable(from module: String) -> Set<String> {
        var (found, left) = (Set<String>(), [module])
        while let next = left.popLast() {
            for name in dependencies[next] ?? [] where found.insert(name).inserted { left.append(name) }
        }
        return found
    }

    /// The floors with every module's direct dependencies, the roof first.
    var drawing: String {
        let order = floors.flatMap(\.modules)
        let width = 12 + (order.map(\.count).max() ?? 0)
        var lines: [String] = []
        for floor in floors.reversed() {
            for (index, module) in floor.modules.reversed().enumerated() {
                var line = ((index == 0 ? floor.name : "").padded(to: 10) + module).padded(to: width)
                for name in order where dependencies[module]?.contains(name) ?? false {
                    if line.count + name.count > 118 {
                        lines.append(line)
                        line = "".padded(to: width)
                    }
                    line += " " + name
                }
                lines.append(line)
            }
        }
        return lines.map { $0.replacing(#/ +$/#, with: "") }.joined(separator: "\n")
    }
}

extension String {
    fileprivate func padded(to width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }
}
