public import Testing

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// How many times longer than usual a test waits before it gives up: sanitizers slow programs down. `dev/sanitize` sets it.
public let patience = ProcessInfo.processInfo.environment["ADVGRPO_TEST_PATIENCE"].flatMap(Int.init) ?? 1

#if DEBUG
    /// Whether these tests, and with them the product, are compiled by the optimiser.
    public let isOptimized = false
#else
    /// Whether these tests, and with them the product, are compiled by the optimiser.
    public let isOptimized = true
#endif

extension Trait where Self == ConditionTrait {
    /// For what takes minutes without the optimiser: plain loops over numbers, whole runs. Patience runs it all the same.
    public static var optimized: Self {
        .enabled(if: isOptimized || patience > 1, "numbers take minutes in a debug build: run make test")
    }
}
