// swift-tools-version: 6.2
import PackageDescription

/// Whether a warning is an error, as dev/check and .ci/run ask; nobody else is stopped by what a newer compiler warns about.
let isStrict = Context.environment["ADVGRPO_STRICT"] != nil

let strict: [SwiftSetting] =
    [
        .swiftLanguageMode(.v6),
        .enableUpcomingFeature("ExistentialAny"),
        .enableUpcomingFeature("InternalImportsByDefault"),
        .enableUpcomingFeature("MemberImportVisibility"),
    ] + (isStrict ? [.treatAllWarnings(as: .error)] : [])

let strictC: [CSetting] = isStrict ? [.treatAllWarnings(as: .error)] : []

/// A library of the system, as Swift sees it: a header and a module map in `Sources/System/<name>`.
func system(_ name: String, apt: String, brew: String) -> Target {
    .systemLibrary(name: name, path: "Sources/System/\(name)", providers: [.apt([apt]), .brew([brew])])
}

/// A Swift library of the product; `Sources/<name>` holds it.
func module(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: strict)
}

/// Its tests, mirrored in `Tests/<name>Tests`.
func tests(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .testTarget(
        name: name + "Tests",
        dependencies: [.target(name: name), "TestSupport"] + dependencies,
        swiftSettings: strict)
}

let package = Package(
    name: "advgrpo",
    products: [
        .executable(name: "advgrpo", targets: ["Command"]),
        .library(name: "TensorCore", targets: ["TensorCore"]),
        .library(name: "SafeTensors", targets: ["SafeTensors"]),
    ],
    // Exact, as Package.resolved is not committed: a lock file names the addresses that packages came from, and differs where a
    // mirror stands in for GitHub. So a commit builds from the same sources everywhere; these have no dependencies of their own.
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
        .package(url: "https://github.com/apple/swift-collections", exact: "1.6.0"),
        .package(url: "https://github.com/apple/swift-log", exact: "1.16.2"),
    ],
    targets: [
        system("COpenBLAS", apt: "libopenblas-dev", brew: "openblas"),
        system("COneDNN", apt: "libdnnl-dev", brew: "onednn"),
        system("CZeroMQ", apt: "libzmq3-dev", brew: "zeromq"),
        system("CSodium", apt: "libsodium-dev", brew: "libsodium"),
        system("CXXHash", apt: "libxxhash-dev", brew: "xxhash"),
        system("CYAML", apt: "libyaml-dev", brew: "libyaml"),
        system("CPNG", apt: "libpng-dev", brew: "libpng"),
        system("CWebP", apt: "libwebp-dev", brew: "webp"),
        .target(
            name: "CJPEG", path: "Sources/System/CJPEG", cSettings: strictC, linkerSettings: [.linkedLibrary("jpeg")]),
        .target(name: "LibC", path: "Sources/System/LibC", swiftSettings: strict),
        .target(name: "CKernels", cSettings: [.unsafeFlags(["-O3", "-fno-math-errno"])] + strictC),

        module("Platform", ["LibC", "CSodium", "CXXHash"]),
        module("TensorCore", ["Platform", "COpenBLAS", "COneDNN", "CKernels"]),
        module("SafeTensors", ["Platform"]),
        module("NeuralNetworks", ["Platform", "TensorCore", "SafeTensors"]),
        module("ImageModels", ["Platform", "NeuralNetworks"]),
        module("Identifiers", []),
        module("AdvGRPO", ["Identifiers", "NeuralNetworks"]),
        module("Raster", ["Platform", "CPNG", "CJPEG", "CWebP"]),
        module("Datasets", ["Raster", "Platform"]),
        module("Protocol", ["Identifiers", "SafeTensors"]),
        module(
            "Transport",
            [
                "Protocol", "Platform", "CZeroMQ", .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "HeapModule", package: "swift-collections"),
            ]),
        module(
            "Processes",
            ["Platform", "Protocol", "SafeTensors", "Transport", .product(name: "Logging", package: "swift-log")]),
        module(
            "WeightsTransfer",
            ["Platform", "Protocol", "SafeTensors", "Transport", .product(name: "Logging", package: "swift-log")]),
        module("Configuration", ["AdvGRPO", "Platform", "CYAML"]),
        module("RunFiles", ["Configuration", "Platform", "Processes", "Protocol"]),
        module(
            "MethodModels",
            [
                "AdvGRPO", "Datasets", "ImageModels", "Platform", "Raster", "SafeTensors", "CXXHash",
            ]),
        module(
            "ComputeRoles",
            [
                "AdvGRPO", "Configuration", "Datasets", "NeuralNetworks", "Platform", "Processes", "Protocol", "Raster",
                "WeightsTransfer", .product(name: "Logging", package: "swift-log"),
            ]
        ),
        module("RolloutWorker", ["Platform", "ComputeRoles", "MethodModels"]),
        module("RewardServer", ["ComputeRoles", "MethodModels", "Datasets"]),
        module("Relay", ["Processes", "WeightsTransfer"]),
        module("Learner", ["Platform", "ComputeRoles", "RunFiles", "MethodModels", "Datasets"]),
        .executableTarget(
            name: "Command",
            dependencies: [
                "RolloutWorker", "RewardServer", "Learner", "Relay", "Datasets", "MethodModels", "Raster",
                "SafeTensors", "RunFiles", "Configuration", "Processes", "ComputeRoles", "Transport", "Protocol",
                "Platform",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: strict),

        .target(name: "OneAtATime", path: "Tests/OneAtATime", cSettings: strictC),
        .target(
            name: "TestSupport", dependencies: ["OneAtATime", "TensorCore", "SafeTensors"], path: "Tests/TestSupport",
            swiftSettings: strict),
        .target(
            name: "FaultyNetwork", dependencies: ["TestSupport"], path: "Tests/FaultyNetwork", swiftSettings: strict),
        .target(
            name: "TinyRun", dependencies: ["TestSupport", "Raster", "Configuration"], path: "Tests/TinyRun",
            swiftSettings: strict),
        .target(
            name: "WeightsPublisher", dependencies: ["Processes", "Protocol", "Transport", "WeightsTransfer"],
            path: "Tests/WeightsPublisher", swiftSettings: strict),
        tests("Platform"), tests("TensorCore"), tests("SafeTensors"), tests("NeuralNetworks"), tests("ImageModels"),
        tests("AdvGRPO", ["ImageModels"]),
        tests("MethodModels", ["AdvGRPO", "ImageModels", "NeuralNetworks", "Raster"]),
        tests("Raster"), tests("Datasets", ["Raster"]), tests("Protocol"),
        tests("Transport", ["FaultyNetwork"]),
        tests(
            "Relay",
            [
                "Protocol", "Processes", "SafeTensors", "Transport", "WeightsPublisher", "WeightsTransfer",
                .product(name: "Logging", package: "swift-log"),
            ]),
        tests(
            "RolloutWorker",
            [
                "AdvGRPO", "ComputeRoles", "MethodModels", "NeuralNetworks", "Processes", "Protocol", "TensorCore",
                "TinyRun",
                "Transport", "WeightsTransfer", .product(name: "Logging", package: "swift-log"),
            ]),
        tests(
            "RewardServer",
            [
                "AdvGRPO", "ComputeRoles", "Configuration", "Datasets", "MethodModels", "Processes", "Protocol",
                "TensorCore", "TinyRun",
                "Transport", .product(name: "Logging", package: "swift-log"),
            ]),
        tests(
            "Learner",
            [
                "AdvGRPO", "CZeroMQ", "ComputeRoles", "MethodModels", "NeuralNetworks", "Processes", "Protocol",
                "SafeTensors",
                "TensorCore", "TinyRun", "Transport", "WeightsTransfer",
            ]),
        tests(
            "Command",
            [
                "ComputeRoles", "FaultyNetwork", "NeuralNetworks", "Processes", "Protocol", "Raster", "RunFiles",
                "SafeTensors", "TensorCore", "TinyRun", "Transport", "WeightsTransfer",
            ]),
        tests(
            "Processes",
            ["Platform", "Protocol", "SafeTensors", "Transport", .product(name: "Logging", package: "swift-log")]),
        tests("Configuration", ["AdvGRPO"]),
        tests("RunFiles", ["AdvGRPO", "Configuration", "Platform", "Processes", "Protocol", "Raster", "Transport"]),
        tests(
            "WeightsTransfer",
            [
                "ComputeRoles", "FaultyNetwork", "NeuralNetworks", "Processes", "Protocol", "SafeTensors", "TensorCore",
                "Transport", "WeightsPublisher", .product(name: "Logging", package: "swift-log"),
            ]),
        tests(
            "ComputeRoles",
            ["AdvGRPO", "Configuration", "Datasets", "Protocol", "SafeTensors", "TensorCore", "TinyRun"]),
        .executableTarget(
            name: "publishing-bench",
            dependencies: [
                "ComputeRoles", "Processes", "Protocol", "SafeTensors", "Transport", "CZeroMQ", "WeightsTransfer",
                .product(name: "Logging", package: "swift-log"),
            ],
            path: "Tests/PublishingBench", swiftSettings: strict),
        .testTarget(
            name: "FuzzTests",
            dependencies: [
                "TestSupport", "TensorCore", "SafeTensors", "NeuralNetworks", "ImageModels", "Raster", "Datasets",
                "Protocol", "Configuration", "RunFiles",
            ],
            swiftSettings: strict),
    ]
)
