import Foundation
import Protocol
import TestSupport
import Testing

/// The table of who may send what, as docs/protocol.md has it and as the code has it.
@Suite("Permissions")
struct PermissionTests {
    /// How the document calls the roles.
    private static let words: [Role: String] = [
        .learner: "learner", .rewardServer: "reward server", .rolloutWorker: "worker", .relay: "relay",
        .operator: "operator", .rewardProcess: "reward process",
    ]

    /// Rows of the document's table: `| kind | sender, sender | receiver, receiver |`.
    private static func documented() throws -> [(kind: String, senders: Set<String>, receivers: Set<String>)] {
        let text = try String(contentsOfFile: Repository.path + "/docs/protocol.md", encoding: .utf8)
        let section = try #require(text.components(separatedBy: "## Who may send what").dropFirst().first)
        func cells(_ line: Substring) -> [String] {
            line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
        }
        return section.split(separator: "\n").drop { !$0.hasPrefix("|") }.prefix { $0.hasPrefix("|") }.dropFirst(2).map
        {
            let cells = cells($0)
            func names(_ cell: String) -> Set<String> { Set(cell.components(separatedBy: ", ")) }
            return (cells[0].replacing("`", with: ""), names(cells[1]), names(cells[2]))
        }
    }

    @Test("every kind of message from every role to every role: the document says what the code does")
    func walk() throws {
        let rows = try Self.documented()
        #expect(rows.count == Permission.table.count)
        for kind in MessageKind.allCases {
            for sender in Role.allCases {
                for receiver in Role.allCases {
                    let said = rows.contains { row in
                        row.kind == "\(kind)" && row.senders.contains(Self.words[sender] ?? "")
                            && row.receivers.contains(Self.words[receiver] ?? "")
                    }
                    #expect(
                        Permission.allows(kind, from: sender, to: receiver) == said,
                        "\(kind) from \(sender) to \(receiver)")
                    let refusal = failureCode { () throws(Failure) in
                        try Permission.check(kind, from: sender, to: receiver)
                    }
                    #expect(refusal == (said ? nil : .notAllowed))
                }
            }
        }
    }

    private func failureCode(_ body: () throws(Failure) -> Void) -> FailureCode? {
        do {
            try body()
            return nil
        } catch {
            return error.code
        }
    }

    @Test("a worker leases, delivers, scores, fetches weights and asks for health, and does nothing else")
    func worker() {
        let kinds = Set(Permission.table.filter { $0.senders.contains(.rolloutWorker) }.map(\.kind))
        #expect(
            kinds == [
                .hello, .leaseRequest, .groupResult, .taskFailure, .heartbeat, .scoreRequest, .healthRequest,
                .manifestRequest, .piecesRequest, .gradientResult, .contentRequest,
            ])
    }

    @Test(
        "replies are nobody's to send as requests; a reward server asks reward processes alone, and those ask nobody"
    )
    func replies() {
        for kind in [MessageKind.scores, .rewards, .failure, .welcome, .pieces, .content, .health] {
            #expect(!Permission.table.contains { $0.kind == kind })
        }
        #expect(
            Permission.table.filter { $0.senders.contains(.rewardServer) }.map(\.kind) == [.rewardRequest]
        )
        #expect(!Permission.table.contains { $0.senders.contains(.rewardProcess) })
        #expect(Role.rewardServer.keyName == nil)
        #expect(Role.keyNames.map(\.name) == ["learner", "worker", "operator", "relay", "reward"])
        for (name, role) in Role.keyNames { #expect(Role(keyName: name) == role && role.keyName == name) }
    }
}
