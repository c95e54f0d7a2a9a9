import Foundation
import Testing

@testable import AdvGRPO

@Suite("gauge")
struct GaugeTests {
    private func settings(_ action: GaugeAction = .warn, window: Int = 4) -> GaugeSettings {
        var settings = GaugeSettings()
        (settings.action, settings.window, settings.trend) = (action, window, 2)
        return settings
    }

    /// An epoch of a run that is well: whatever moves does so without a trend, and the discriminator wins clearly.
    private func healthy(_ epoch: Int) -> Gauge.Reading {
        var reading = Gauge.Reading()
        let sign = epoch.isMultiple(of: 2) ? 1.0 : -1
        (reading.reward, reading.twin, reading.diversity) = (0.1 * sign, 0.2 * sign, 0.3 + 0.01 * sign)
        (reading.logRatio, reading.areaUnderCurve, reading.hinge) = (1e-4, 0.8 + 0.01 * sign, 0.6)
        return reading
    }

    /// The alarms of some epochs, each with its cause.
    private func alarms(
        _ gauge: inout Gauge, _ epochs: Range<Int>, policyLearned: Bool = true,
        change: (inout Gauge.Reading, Int) -> Void = { _, _ in }
    ) -> [String] {
        epochs.flatMap { epoch in
            var reading = healthy(epoch)
            change(&reading, epoch)
            return gauge.note(reading, epoch: epoch, policyLearned: policyLearned).map { "\($0.epoch) \($0.cause)" }
        }
    }

    /// Of numpy: r √((n - 2) / (1 - r²)) with r = corrcoef(0..., values).
    @Test("a trend is the t of a linear regression")
    func trends() {
        for (values, expected) in [
            ([0, 1, 0, 2, 1], 1.1920791213585393), ([3, 2.5, 2.75, 1, 0.5, 0.25], -5.559002335292578),
            ([1, 1.5, 1.2, 1.9, 2.4, 2.2], 4.118214770780241),
        ] { #expect(abs(trend(values) - expected) < 1e-9) }
        #expect(trend([1, 2, 3]) == .infinity && trend([2, 2, 2]) == 0)
    }

    @Test("a run that is well gives no alarm")
    func quiet() {
        var gauge = Gauge(settings())
        #expect(alarms(&gauge, 0..<100).isEmpty && gauge.state.alarmCount == 0)
    }

    @Test("the reward rises while the twin falls: both are needed, over the whole window")
    func reward() {
        func found(_ change: @escaping (inout Gauge.Reading, Int) -> Void) -> [String] {
            var gauge = Gauge(settings())
            return alarms(&gauge, 0..<8, change: change)
        }
        let noise = [0.0, 0.02, -0.01, 0.01]
        func up(_ epoch: Int) -> Double { 0.1 * Double(epoch) + noise[epoch % 4] }
        #expect(found { ($0.reward, $0.twin) = (up($1), -up($1)) } == ["3 reward", "7 reward"])
        #expect(found { ($0.reward, $0.twin) = (up($1), up($1)) }.isEmpty)
        #expect(found { ($0.reward, $0.twin) = (-up($1), -up($1)) }.isEmpty)
        #expect(found { reading, epoch in reading.reward = up(epoch) }.isEmpty)
        // Without a twin for part of the window there is nothing to compare.
        #expect(found { ($0.reward, $0.twin) = (up($1), $1 == 2 ? nil : -up($1)) }.map(\.first) == ["6"])
    }

    @Test("diversity is compared with that of the run's first window")
    func diversity() {
        var gauge = Gauge(settings())
        #expect(alarms(&gauge, 0..<5) { reading, _ in reading.diversity = 0.4 } == [])
        // 0.4, 0.4, 0.4, 0.1 is 0.325; 0.4, 0.1, 0.1, 0.1 is 0.175, below half of 0.4.
        #expect(alarms(&gauge, 5..<9) { reading, _ in reading.diversity = 0.1 } == ["7 diversity"])
    }

    @Test("the ratio is judged by its root mean square, and the sentence has the figures")
    func ratio() {
        var gauge = Gauge(settings())
        #expect(alarms(&gauge, 0..<4) { reading, epoch in reading.logRatio = epoch == 3 ? 0.21 : 0 } == ["3 ratio"])
        let sentence = gauge.state.alarms[0].sentence
        #expect(sentence.contains("0.105") && sentence.contains("above 0.1"), "\(sentence)")
    }

    @Test("a discriminator that never exceeds chance for a window, or whose hinge stays above 1, has stopped learning")
    func discriminator() {
        var gauge = Gauge(settings())
        // One training that tells images apart is enough.
        #expect(alarms(&gauge, 0..<4) { reading, epoch in reading.areaUnderCurve = epoch == 1 ? 0.56 : 0.5 } == [])
        #expect(
            alarms(&gauge, 4..<6) { reading, _ in reading.areaUnderCurve = 0.5 } == ["5 discriminator"])
        #expect(alarms(&gauge, 6..<10) { reading, _ in reading.hinge = 1.2 } == ["9 discriminator"])
        // Epochs that do not train it say nothing.
        #expect(alarms(&gauge, 10..<30) { $0.areaUnderCurve = $1 % 3 == 0 ? 0.5 : nil }.isEmpty)
    }

    @Test("nothing is judged before the policy moves, without an action, or by what is not finite")
    func silence() {
        var waiting = Gauge(settings())
        #expect(alarms(&waiting, 0..<20, policyLearned: false) { reading, _ in reading.hinge = 2 }.isEmpty)
        #expect(alarms(&waiting, 20..<24) { reading, _ in reading.hinge = 2 } == ["23 discriminator"])
        var off = Gauge(settings(.off))
        #expect(alarms(&off, 0..<20) { reading, _ in reading.hinge = 2 }.isEmpty && off.state == Gauge.State())
        var broken = Gauge(settings())
        #expect(
            alarms(&broken, 0..<20) { reading, _ in
                (reading.logRatio, reading.diversity, reading.hinge) = (.nan, -.infinity, .infinity)
            }.isEmpty)
        #expect(throws: Never.self) { try JSONEncoder().encode(broken.state) }
    }

    @Test("restored from its state it gives the same alarms at the same epochs", arguments: 1..<8)
    func resume(at cut: Int) throws {
        func change(_ reading: inout Gauge.Reading, _ epoch: Int) {
            (reading.reward, reading.twin) = (0.3 * Double(epoch), -0.1 * Double(epoch * epoch))
            reading.diversity = 0.4 / Double(epoch + 1)
        }
        var whole = Gauge(settings(.slow))
        let expected = alarms(&whole, 0..<16, change: change)
        var first = Gauge(settings(.slow))
        let before = alarms(&first, 0..<cut, change: change)
        let stored = try JSONEncoder().encode(first.state)
        var second = Gauge(settings(.slow), state: try JSONDecoder().decode(Gauge.State.self, from: stored))
        #expect(before + alarms(&second, cut..<16, change: change) == expected && expected.count >= 4)
        #expect(second == whole && second.learningRateShare == whole.learningRateShare)
    }

    // MARK: What is done

    private func bad(_ action: GaugeAction, epochs: Int) -> Gauge {
        var gauge = Gauge(settings(action))
        _ = alarms(&gauge, 0..<epochs) { reading, _ in reading.logRatio = 1 }
        return gauge
    }

    @Test("warn changes nothing, slow halves, refresh is due once, rollback halves and counts")
    func deeds() {
        var (warn, refresh) = (bad(.warn, epochs: 8), bad(.refresh, epochs: 8))
        #expect(warn.learningRateShare == 1 && warn.takeRefresh() == 1 && warn.state.alarmCount == 2)
        #expect(bad(.slow, epochs: 8).learningRateShare == 0.25)
        #expect(refresh.learningRateShare == 1 && refresh.takeRefresh() == 8 && refresh.takeRefresh() == 1)
        #expect(!bad(.rollback, epochs: 12).isSpent && bad(.rollback, epochs: 16).isSpent)
        #expect(bad(.rollback, epochs: 12).learningRateShare == 0.125)
        #expect(warn.beginning(ofWindowEnding: 9) == 6 && warn.beginning(ofWindowEnding: 1) == 0)
    }

    @Test("a run that is taken back keeps what was done and told, and reads on from where it is")
    func back() {
        let later = bad(.rollback, epochs: 4)
        var earlier = Gauge(settings(.rollback))
        #expect(alarms(&earlier, 0..<2).isEmpty)
        earlier.goBack(from: later.state)
        #expect(earlier.state.alarms == later.state.alarms && earlier.state.rollbacks == 1)
        #expect(earlier.learningRateShare == 0.5 && earlier.state.readings.count == 2)
        #expect(alarms(&earlier, 2..<4) { reading, _ in reading.logRatio = 1 } == ["3 ratio"])
    }

    @Test("a state that no run has is named")
    func defects() throws {
        let stored = String(decoding: try JSONEncoder().encode(bad(.rollback, epochs: 8).state), as: UTF8.self)
        func defect(_ old: String, _ new: String) throws -> String? {
            try JSONDecoder().decode(Gauge.State.self, from: Data(stored.replacing(old, with: new).utf8)).defect
        }
        #expect(try defect("halvings", "halvings") == nil)
        #expect(try defect(#""halvings":2"#, #""halvings":-1"#)?.contains("halvings -1") == true)
        #expect(try defect(#""halvings":2"#, #""halvings":4000000000"#)?.contains("expected 0 to 64") == true)
        #expect(try defect(#""rollbacks":2"#, #""rollbacks":-7"#)?.contains("rollbacks -7") == true)
        #expect(try defect(#""alarmCount":2"#, #""alarmCount":1"#) == "has 2 alarms of 1")
    }

    @Test("a refresh needs a discriminator that learns")
    func combinations() {
        func refusal(_ change: (inout MethodSettings) -> Void) -> [String] {
            var method = MethodSettings(fidelity: .fixed)
            method.gauge.action = .refresh
            change(&method)
            return method.validate().map(\.path)
        }
        #expect(refusal { _ in } == [])
        #expect(refusal { $0.discriminator.train = false } == ["gauge.action"])
        #expect(refusal { $0.gauge.window = 2 } == ["gauge.window"])
    }
}
