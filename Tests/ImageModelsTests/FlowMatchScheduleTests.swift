import ImageModels
import TestSupport
import Testing

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

@Suite struct FlowMatchScheduleTests {
    private struct Document: Decodable {
        struct Schedule: Decodable {
            var steps: Int
            var shift: Double
            var sigmas: [Double], timesteps: [Double]
        }
        var schedules: [Schedule]
    }

    @Test("sigmas and timesteps are the fp32 numbers of diffusers")
    func levels() throws {
        let data = try Data(contentsOf: URL(fileURLWithPath: Repository.fixtures + "/flow.json"))
        let document = try JSONDecoder().decode(Document.self, from: data)
        #expect(!document.schedules.isEmpty)
        for expected in document.schedules {
            let schedule = FlowMatchSchedule(shift: expected.shift)
            let sigmas = schedule.sigmas(stepCount: expected.steps)
            #expect(sigmas == expected.sigmas.map { Float($0) }, "shift \(expected.shift), \(expected.steps) steps")
            #expect(sigmas.dropLast().map(schedule.timestep) == expected.timesteps.map { Float($0) })
        }
    }

    @Test("the base model's schedule is SD3's")
    func baseModel() throws {
        let schedule = try FlowMatchSchedule(folder: Repository.models + "/emoji-sd3-tiny/scheduler")
        #expect(schedule == FlowMatchSchedule(trainStepCount: 1000, shift: 3))
    }
}
