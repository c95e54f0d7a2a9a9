import ComputeRoles
import Logging
import Testing

@Suite struct ProgramVersionsTests {
    @Test("another version of the program is told of once, inventions not without end, one's own never")
    func versions() {
        let versions = ProgramVersions(own: "1.2.3", logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        #expect(!versions.note("1.2.3", of: "worker a"))
        #expect(versions.note("1.2.4", of: "worker a"))
        #expect(!versions.note("1.2.4", of: "worker b"))
        #expect(versions.note("", of: "worker c"))
        let told = (0..<100).count { versions.note("x\($0)", of: "a stranger") }
        #expect(told < 20)
    }
}
