import ImageModels
import NeuralNetworks
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
            let sigmas = try schedule.sigmas(stepCount: expected.steps)
            #expect(sigmas == expected.sigmas.map { Float($0) }, "shift \(expected.shift), \(expected.steps) steps")
            #expect(sigmas.dropLast().map(schedule.timestep) == expected.timesteps.map { Float($0) })
        }
    }

    private struct Numbers: Decodable {
        struct Entry: Decodable {
            var shift: Double
            var shift_terminal: Double?
            var num_train_timesteps: Int, steps: Int
            var sigmas: [Double], timesteps: [Double]
        }
        var entries: [Entry]
    }

    @Test("sigmas of random configurations are those of diffusers, but for fp32's rounding")
    func randomConfigurations() throws {
        let data = try Data(contentsOf: URL(fileURLWithPath: Repository.fixtures + "/schedules.json"))
        let entries = try JSONDecoder().decode(Numbers.self, from: data).entries
        #expect(entries.count == 24)
        for entry in entries {
            let schedule = FlowMatchSchedule(
                trainStepCount: entry.num_train_timesteps, shift: entry.shift, terminal: entry.shift_terminal)
            let sigmas = try schedule.sigmas(stepCount: entry.steps)
            #expect(sigmas.count == entry.sigmas.count)
            for (ours, theirs) in zip(sigmas, entry.sigmas) {
                #expect(abs(Double(ours) - theirs) <= 1.2e-7, "shift \(entry.shift), \(entry.steps) steps")
            }
            for (sigma, time) in zip(sigmas, entry.timesteps) {
                #expect(abs(Double(schedule.timestep(sigma)) - time) <= 2.4e-7 * Double(entry.num_train_timesteps))
            }
        }
    }

    private func schedule(_ json: String) throws -> FlowMatchSchedule {
        try withTemporaryFolder { folder in
            try Data(json.utf8).write(to: URL(fileURLWithPath: folder + "/scheduler_config.json"))
            return try FlowMatchSchedule(folder: folder)
        }
    }

    @Test("a file without a class, with Python's infinities and absent entries is read")
    func accepted() throws {
        #expect(try schedule("{}") == FlowMatchSchedule(shift: 1))
        #expect(
            try schedule(#"{"shift": 2, "shift_terminal": 0.1, "lambda_min_clipped": -Infinity}"#)
                == FlowMatchSchedule(shift: 2, terminal: 0.1))
    }

    @Test(
        "classes that sample in another way are refused by name, with what to save instead",
        arguments: [
            "UniPCMultistepScheduler", "DPMSolverMultistepScheduler", "EulerDiscreteScheduler", "DDIMScheduler",
            "FlowMatchHeunDiscreteScheduler",
        ])
    func otherClasses(name: String) throws {
        let error = #expect(throws: ModelError.self) {
            try schedule(
                #"{"_class_name": "\#(name)", "use_flow_sigmas": true, "flow_shift": 2.5, "lambda_min_clipped": -Infinity}"#
            )
        }
        #expect(error?.code == .unsupported && error?.message.contains("describes \(name)") == true)
        #expect(
            error?.message.contains(#"FlowMatchEulerDiscreteScheduler(shift=2.5).save_pretrained("MODEL/scheduler")"#)
                == true)
    }

    @Test(
        "values out of range are refused with key and range",
        arguments: [
            (#"{"shift": 0}"#, #""shift" is 0.0, expected 0.01 to 100.0"#), (#"{"shift": -3}"#, #""shift" is -3.0"#),
            (#"{"shift": NaN}"#, #""shift" is nan"#), (#"{"shift": Infinity}"#, #""shift" is inf"#),
            (#"{"shift_terminal": 1}"#, #""shift_terminal" is 1.0, expected 0.001 to 0.99"#),
            (#"{"shift_terminal": -0.1}"#, #""shift_terminal" is -0.1"#),
            (#"{"num_train_timesteps": 0}"#, #""num_train_timesteps" is 0, expected 1 to"#),
            (#"{"num_train_timesteps": 500}"#, "num_train_timesteps 500 is not supported, only 1000"),
        ])
    func ranges(json: String, message: String) throws {
        let error = #expect(throws: ModelError.self) { try schedule(json) }
        #expect(error?.message.contains(message) == true, "\(error?.message ?? "")")
    }

    @Test("numbers of steps without falling levels are refused")
    func steps() throws {
        #expect(throws: ModelError.self) { try FlowMatchSchedule(terminal: 0.1).sigmas(stepCount: 1) }
        #expect(throws: ModelError.self) { try FlowMatchSchedule(trainStepCount: 1).sigmas(stepCount: 2) }
    }

    @Test("the base model's schedule is SD3's")
    func baseModel() throws {
        let schedule = try FlowMatchSchedule(folder: Repository.models + "/emoji-sd3-tiny/scheduler")
        #expect(schedule == FlowMatchSchedule(trainStepCount: 1000, shift: 3))
    }
}
