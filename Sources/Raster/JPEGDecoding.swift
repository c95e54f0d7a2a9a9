internal import CJPEG

/// The pixels of a JPEG of any colours: as Pillow's `convert("RGB")`, bit for bit.
func decodeJPEG(_ bytes: [UInt8], path: String?) throws(RasterError) -> DecodedImage {
    func corrupt(_ message: JPEGMessage) -> RasterError { .damaged("JPEG", message.text, path: path) }
    return try bytes.withUnsafeBufferPointer { memory throws(RasterError) -> DecodedImage in
        var header = cjpeg_header()
        var message = JPEGMessage()
        guard let decoder = message.fill({ cjpeg_open(memory.baseAddress, memory.count, &header, $0) }) else {
            throw corrupt(message)
        }
        defer { cjpeg_close(decoder) }
        let (width, height) = (Int(header.width), Int(header.height))
        try ImageLimits.check(width: width, height: height, path: path)
        let byteCount = width * height * Int(header.components)
        var succeeded = false
        let pixels = [UInt8](unsafeUninitializedCapacity: byteCount) { buffer, count in
            succeeded = message.fill { cjpeg_read(decoder, buffer.baseAddress, $0) } != 0
            count = succeeded ? byteCount : 0
        }
        guard succeeded else { throw corrupt(message) }
        return DecodedImage(
            width: width, height: height, channels: 3, pixels: header.components == 4 ? rgb(cmyk: pixels) : pixels)
    }
}

/// Ink on paper to light, with the integer steps of Pillow's `cmyk2rgb`; inks are stored inverted, as Adobe does.
private func rgb(cmyk: [UInt8]) -> [UInt8] {
    let pixelCount = cmyk.count / 4
    return [UInt8](unsafeUninitializedCapacity: pixelCount * 3) { buffer, count in
        for pixel in 0..<pixelCount {
            let paper = Int(cmyk[pixel * 4 + 3])
            for channel in 0..<3 {
                let covered = (255 - Int(cmyk[pixel * 4 + channel])) * paper + 128
                buffer[pixel * 3 + channel] = UInt8(max(0, paper - ((covered >> 8) + covered) >> 8))
            }
        }
        count = pixelCount * 3
    }
}

/// libjpeg's own words about what went wrong.
struct JPEGMessage {
    private(set) var text = ""

    /// Calls libjpeg with room for its words, and keeps them.
    mutating func fill<Result>(_ call: (UnsafeMutablePointer<CChar>) -> Result) -> Result {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(CJPEG_MESSAGE_SIZE)) { buffer in
            buffer.initialize(repeating: 0)
            // No buffer of a size of its own is empty.
            let result = call(buffer.baseAddress!)
            text = String(cString: buffer.baseAddress!)
            return result
        }
    }
}

/// The segments before the pixels of a JPEG, as far as they go.
struct JPEGSegments {
    /// What the application segments say of the orientation. EXIF that is longer than a segment goes on in the next.
    private(set) var orientation = OrientationMetadata()
    /// The size in the frame header, or nil when it does not come.
    private(set) var size: (width: Int, height: Int)?

    init(_ bytes: [UInt8]) {
        let xmpHeader = Array("http://ns.adobe.com/xap/1.0/".utf8) + [0]
        func pair(at offset: Int) -> Int { Int(bytes[offset]) << 8 | Int(bytes[offset + 1]) }
        var position = 2
        while position + 4 <= bytes.count, bytes[position] == 0xFF {
            let marker = bytes[position + 1]
            // Fill bytes may stand before a marker.
            if marker == 0xFF {
                position += 1
                continue
            }
            let length = pair(at: position + 2)
            guard marker != Marker.scan, length >= 2, position + 2 + length <= bytes.count else { return }
            let content = bytes[position + 4..<position + 2 + length]
            if marker == Marker.application1, content.starts(with: exifHeader) {
                orientation.exif += content.dropFirst(orientation.exif.isEmpty ? 0 : exifHeader.count)
            } else if marker == Marker.application1, content.starts(with: xmpHeader) {
                orientation.xmp = content
            } else if Marker.frames.contains(marker), !Marker.notFrames.contains(marker), content.count >= 5 {
                size = (width: pair(at: content.startIndex + 3), height: pair(at: content.startIndex + 1))
            }
            position += 2 + length
        }
    }

    private enum Marker {
        static let scan: UInt8 = 0xDA
        static let application1: UInt8 = 0xE1
        static let frames: ClosedRange<UInt8> = 0xC0...0xCF
        /// Huffman tables, an extension, arithmetic conditioning.
        static let notFrames: [UInt8] = [0xC4, 0xC8, 0xCC]
    }
}
