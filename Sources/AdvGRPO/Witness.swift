/// What is measured of every image beside its reward, and enters none: the gauge reads it.
public enum Witness: String, Sendable, CaseIterable {
    /// The adversarial score by the frozen twin.
    case twin
    /// The mean distance to the group's other images.
    case diversity
}
