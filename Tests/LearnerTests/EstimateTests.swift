import Learner
import Testing

@Suite("estimates")
struct EstimateTests {
    @Test(
        "a value has the decimals that two digits of its standard error need",
        arguments: [
            (5.4763, 0.1234, "5.48 ± 0.12"), (0.97871, 0.00123, "0.9787 ± 0.0012"), (131.4, 12.6, "131 ± 13"),
            (0.5, 0, "0.5000"), (0.25, .nan, "0.2500"), (-5.21, 0.099, "-5.210 ± 0.099"),
        ] as [(Double, Double, String)])
    func text(value: Double, error: Double, text: String) {
        #expect(Estimate("x", value, standardError: error).text == text)
    }

    @Test("without a standard error a value has four decimals")
    func alone() { #expect(Estimate("x", 1.23456, standardError: nil).text == "1.2346") }
}
