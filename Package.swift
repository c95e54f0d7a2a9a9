// swift-tools-version: 6.2
import PackageDescription

let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

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
    products: [.executable(name: "advgrpo", targets: ["Command"])],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    ],
    targets: [
        .systemLibrary(name: "COpenBLAS", providers: [.apt(["libopenblas-dev"]), .brew(["openblas"])]),
        .systemLibrary(name: "COneDNN", providers: [.apt(["libdnnl-dev"]), .brew(["onednn"])]),
        .systemLibrary(name: "CZeroMQ", providers: [.apt(["libzmq3-dev"]), .brew(["zeromq"])]),
        .systemLibrary(name: "CXXHash", providers: [.apt(["libxxhash-dev"]), .brew(["xxhash"])]),
        .systemLibrary(name: "CPNG", providers: [.apt(["libpng-dev"]), .brew(["libpng"])]),
        .systemLibrary(name: "CWebP", providers: [.apt(["libwebp-dev"]), .brew(["webp"])]),
        .target(name: "CJPEG", linkerSettings: [.linkedLibrary("jpeg")]),
        .target(name: "CKernels", cSettings: [.unsafeFlags(["-O3", "-fno-math-errno"])]),

        module("Platform", []),
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
            "Runtime",
            [
                "AdvGRPO", "Protocol", "Transport", "Raster", "Platform", "CXXHash",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "Metrics", package: "swift-metrics"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "Crypto", package: "swift-crypto"),
                "Yams",
            ]),
        module(
            "MethodModels",
            [
                "AdvGRPO", "ImageModels", "Platform", "Raster", "SafeTensors", "CXXHash",
                .product(name: "Crypto", package: "swift-crypto"),
            ]),
        module("RolloutWorker", ["Platform", "Runtime", "MethodModels"]),
        module("RewardServer", ["Runtime", "MethodModels", "Datasets"]),
        module("Relay", ["Runtime", "SafeTensors"]),
        module("Learner", ["Runtime", "MethodModels", "Datasets"]),
        .executableTarget(
            name: "Command",
            dependencies: [
                "RolloutWorker", "RewardServer", "Learner", "Relay", "Datasets", "MethodModels", "Raster",
                "SafeTensors", "Runtime", "Transport", "Protocol", "Platform",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: strict),

        .target(
            name: "TestSupport", dependencies: ["TensorCore", "SafeTensors"], path: "Tests/TestSupport",
            swiftSettings: strict),
        .target(
            name: "FaultyNetwork", dependencies: ["TestSupport"], path: "Tests/FaultyNetwork", swiftSettings: strict),
        .target(
            name: "WeightsPublisher", dependencies: ["Protocol", "Runtime", "Transport"],
            path: "Tests/WeightsPublisher", swiftSettings: strict),
        tests("Platform"), tests("TensorCore"), tests("SafeTensors"), tests("NeuralNetworks"), tests("ImageModels"),
        tests("AdvGRPO", ["ImageModels"]),
        tests("MethodModels", ["AdvGRPO", "ImageModels", "NeuralNetworks", "Raster"]),
        tests("Raster"), tests("Datasets", ["Raster"]), tests("Protocol"),
        tests("Transport", ["FaultyNetwork"]),
        tests(
            "Relay",
            [
                "Protocol", "Runtime", "SafeTensors", "Transport", "WeightsPublisher",
                .product(name: "Logging", package: "swift-log"),
            ]),
        tests("RolloutWorker", ["Protocol", "Transport"]),
        tests("RewardServer", ["AdvGRPO", "Datasets", "Protocol", "TensorCore", "Transport"]),
        tests("Learner", ["AdvGRPO", "CZeroMQ", "Protocol", "Runtime", "SafeTensors", "Transport"]),
        tests(
            "Command",
            [
                "FaultyNetwork", "NeuralNetworks", "Protocol", "Runtime", "Raster", "SafeTensors", "TensorCore",
                "Transport",
            ]),
        tests(
            "Runtime",
            [
                "AdvGRPO", "FaultyNetwork", "NeuralNetworks", "Platform", "Protocol", "Raster", "SafeTensors",
                "TensorCore", "Transport", "WeightsPublisher", "Yams",
                .product(name: "Logging", package: "swift-log"),
            ]),
        .executableTarget(
            name: "publishing-bench",
            dependencies: [
                "Protocol", "Runtime", "SafeTensors", "Transport", "CZeroMQ",
                .product(name: "Logging", package: "swift-log"),
            ],
            path: "Tests/PublishingBench", swiftSettings: strict),
        .testTarget(
            name: "FuzzTests",
            dependencies: [
                "TestSupport", "TensorCore", "SafeTensors", "NeuralNetworks", "ImageModels", "Raster", "Datasets",
                "Protocol", "Runtime",
            ],
            swiftSettings: strict),
    ]
)
