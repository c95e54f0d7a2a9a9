internal import CWebP

/// The pixels of a WebP picture, lossy or lossless, and what its chunks say of its orientation.
func decodeWebP(
    _ bytes: [UInt8], path: String?
) throws(RasterError) -> (DecodedImage, OrientationMetadata) {
    func corrupt(_ message: String) -> RasterError { .damaged("WebP", message, path: path) }
    guard let announced = webPByteCount(bytes) else { throw corrupt("its header is cut off") }
    guard announced <= bytes.count else {
        throw corrupt("cut off: \(bytes.count) bytes of \(announced)")
    }
    return try bytes.withUnsafeBufferPointer {
        memory throws(RasterError) -> (DecodedImage, OrientationMetadata) in
        var features = WebPBitstreamFeatures()
        guard WebPGetFeatures(memory.baseAddress, memory.count, &features) == VP8_STATUS_OK else {
            throw corrupt("damaged")
        }
        if features.has_animation != 0 { throw .animated("WebP", path: path) }
        let (width, height) = (Int(features.width), Int(features.height))
        try ImageLimits.check(width: width, height: height, path: path)
        var succeeded = false
        let byteCount = width * height * 4
        let pixels = [UInt8](unsafeUninitializedCapacity: byteCount) { buffer, count in
            let decoded = WebPDecodeRGBAInto(
                memory.baseAddress, memory.count, buffer.baseAddress, byteCount, Int32(width * 4))
            succeeded = decoded != nil
            count = succeeded ? byteCount : 0
        }
        guard succeeded else { throw corrupt("damaged") }
        var data = WebPData(bytes: memory.baseAddress, size: memory.count)
        guard let container = WebPDemux(&data) else { throw corrupt("damaged") }
        defer { WebPDemuxDelete(container) }
        func chunk(_ name: String) -> ArraySlice<UInt8> {
            var iterator = WebPChunkIterator()
            defer { WebPDemuxReleaseChunkIterator(&iterator) }
            guard WebPDemuxGetChunk(container, name, 1, &iterator) != 0 else { return [] }
            return Array(UnsafeBufferPointer(start: iterator.chunk.bytes, count: iterator.chunk.size))[...]
        }
        return (
            DecodedImage(width: width, height: height, channels: 4, pixels: pixels),
            OrientationMetadata(exif: chunk("EXIF"), xmp: chunk("XMP "))
        )
    }
}

/// The length of the whole file, as its first twelve bytes say; nil when they are not there.
func webPByteCount(_ head: [UInt8]) -> Int? {
    guard head.count >= 12 else { return nil }
    return head[4..<8].reversed().reduce(0) { $0 << 8 | Int($1) } + 8
}

/// The size of a still picture whose file begins with `head`; nil when that does not say it.
func webPSize(head: [UInt8]) -> (width: Int, height: Int)? {
    var features = WebPBitstreamFeatures()
    let status = head.withUnsafeBufferPointer { WebPGetFeatures($0.baseAddress, $0.count, &features) }
    guard status == VP8_STATUS_OK, features.has_animation == 0 else { return nil }
    return (width: Int(features.width), height: Int(features.height))
}
