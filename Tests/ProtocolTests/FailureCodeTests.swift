import Foundation
import Protocol
import TestSupport
import Testing

/// The table of failure codes and docs/protocol.md say the same.
@Suite struct FailureCodeTests {
    @Test("docs/protocol.md has the table, row by row")
    func document() throws {
        let page = try String(contentsOfFile: Repository.path + "/docs/protocol.md", encoding: .utf8)
        let table = try #require(page.components(separatedBy: "| code | means |\n|---|---|\n").last)
        let rows = table.components(separatedBy: "\n").prefix { $0.hasPrefix("| ") }
        #expect(rows.elementsEqual(FailureCode.meanings.map { "| `\($0.code)` | \($0.meaning) |" }))
        #expect(Set(FailureCode.allCases).count == FailureCode.allCases.count && rows.count > 20)
    }

    @Test("a code that this version does not know keeps its name")
    func unknown() throws {
        let code = FailureCode(rawValue: "fromTheFuture")
        #expect(!FailureCode.allCases.contains(code) && "\(Failure(code: code, message: "no"))" == "fromTheFuture: no")
    }
}
