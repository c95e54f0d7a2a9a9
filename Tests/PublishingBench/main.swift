import Foundation

// Weights to eight receivers over loopback TCP: the product's path against libzmq alone, in one run.
//
//     publishing-bench BYTES [ROUNDS]
//
// `product`: a server that publishes, and processes that pull with `WeightsDownload`, check every piece and drop it; the time
// includes digesting the weights once. `bare`: a ROUTER that copies the same bytes into messages of the same sizes and sends
// each to every peer, and processes that receive and drop them. `bare, digested`: the same, but receivers take the digest of
// every message, as anybody has to who checks what comes. Receivers are processes; each clock runs from the moment when all
// are connected to the moment when the last has everything.

let arguments = CommandLine.arguments.dropFirst().map { String($0) }
switch arguments.first {
case "receive-product": try ProductReceiver.run(endpoint: arguments[1], manifest: arguments[2])
case "receive-bare":
    BareReceiver.run(endpoint: arguments[1], byteCount: Int(arguments[2]) ?? 0, digests: arguments[3] == "digested")
default:
    guard let text = arguments.first, let byteCount = Int(text), byteCount >= 1 << 20 else {
        print("usage: publishing-bench BYTES [ROUNDS], at least 1048576 bytes")
        exit(64)
    }
    try PublishingBench(byteCount: byteCount, rounds: arguments.count > 1 ? Int(arguments[1]) ?? 1 : 1).run()
}
