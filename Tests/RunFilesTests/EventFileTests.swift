import Foundation
import Platform
import Processes
import TestSupport
import Testing

@testable import RunFiles

@Suite("EventFile")
struct EventFileTests {
    @Test("CRC-32C of the published check value and of RFC 3720's examples")
    func checksum() {
        #expect(EventFile.crc32c(Array("123456789".utf8)) == 0xE306_9283)
        #expect(EventFile.crc32c([UInt8](repeating: 0, count: 32)) == 0x8A91_36AA)
        #expect(EventFile.crc32c([UInt8](repeating: 0xFF, count: 32)) == 0x62A8_AB43)
        #expect(EventFile.crc32c(Array(0..<32)) == 0x46DD_794E)
    }

    @Test("records are framed and hold the messages that TensorBoard's schema describes")
    func framing() throws {
        let folder = try TemporaryFolder()
        let path: String
        do {
            let events = try EventFile(folder: folder.path, firstStep: 300)
            try events.append(step: 300, scalars: [("reward/mean", 0.5), ("loss", -2)])
            try events.append(step: 301, image: "samples", png: [137, 80], width: 5, height: 300)
            path = events.path
        }
        let events = try records(path).map { try Message($0) }
        #expect(events.count == 4)
        #expect(events[0].text(3) == "brain.Event:2")
        #expect(events[1].integer(2) == 300)
        #expect(try events[1].message(7).integer(1) == 1)
        let summary = try events[2].message(5)
        #expect(summary.fields.count == 2)
        let loss = try Message(summary.fields[1].bytes)
        #expect(loss.text(1) == "loss")
        #expect(loss.fields[1].bytes == [0, 0, 0, 0xC0])
        #expect(events[3].integer(2) == 301)
        let image = try events[3].message(5).message(1).message(4)
        #expect(image.integer(1) == 300 && image.integer(2) == 5 && image.integer(3) == 3)
        #expect(image.fields[3].bytes == [137, 80])
    }

    /// Reads TFRecord framing with a bitwise checksum of its own.
    private func records(_ path: String) throws -> [[UInt8]] {
        var rest = try FileStore.read(path)[...]
        func take(_ count: Int) throws -> [UInt8] {
            try #require(rest.count >= count)
            defer { rest = rest.dropFirst(count) }
            return Array(rest.prefix(count))
        }
        func number(_ bytes: [UInt8]) -> UInt64 { bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) } }
        func masked(_ bytes: [UInt8]) -> UInt64 {
            var checksum: UInt32 = 0xFFFF_FFFF
            for byte in bytes {
                for bit in 0..<8 {
                    let odd = (checksum ^ UInt32(byte >> bit)) & 1 == 1
                    checksum = odd ? checksum >> 1 ^ 0x82F6_3B78 : checksum >> 1
                }
            }
            checksum = ~checksum
            return UInt64((checksum >> 15 | checksum << 17) &+ 0xA282_EAD8)
        }
        var found: [[UInt8]] = []
        while !rest.isEmpty {
            let length = try take(8)
            #expect(number(try take(4)) == masked(length))
            let bytes = try take(Int(number(length)))
            #expect(number(try take(4)) == masked(bytes))
            found.append(bytes)
        }
        return found
    }

    /// A protocol buffer message read field by field.
    private struct Message {
        struct Field {
            let number: Int
            var value: UInt64 = 0
            var bytes: [UInt8] = []
        }
        var fields: [Field] = []

        init(_ bytes: [UInt8]) throws {
            var rest = bytes[...]
            func variable() throws -> UInt64 {
                var value: UInt64 = 0
                var shift: UInt64 = 0
                while true {
                    let first = rest.popFirst()
                    let byte = try #require(first)
                    value |= UInt64(byte & 0x7F) << shift
                    if byte < 0x80 { return value }
                    shift += 7
                }
            }
            while !rest.isEmpty {
                let key = try variable()
                var field = Field(number: Int(key >> 3))
                switch key & 7 {
                case 0: field.value = try variable()
                case 1:
                    field.bytes = Array(rest.prefix(8))
                    rest = rest.dropFirst(8)
                case 5:
                    field.bytes = Array(rest.prefix(4))
                    rest = rest.dropFirst(4)
                default:
                    let count = Int(try variable())
                    field.bytes = Array(rest.prefix(count))
                    rest = rest.dropFirst(count)
                }
                fields.append(field)
            }
        }

        func text(_ number: Int) -> String? { field(number).map { String(decoding: $0.bytes, as: UTF8.self) } }
        func integer(_ number: Int) -> UInt64? { field(number)?.value }
        func message(_ number: Int) throws -> Message { try Message(#require(field(number)).bytes) }
        private func field(_ number: Int) -> Field? { fields.first { $0.number == number } }
    }
}
