import Foundation
import NeuralNetworks
import Raster
import Synchronization

/// Tesseract, Debian's `libtesseract5`, opened when it is asked for: nothing else needs it, to build or to run.
///
/// One engine reads one image at a time; as many are made as read at once.
final class Tesseract: Sendable {
    /// Texts of any size anywhere in the image, in no particular order (`PSM_SPARSE_TEXT`): pictures are no pages.
    private static let sparseText: Int32 = 11
    /// Dots per inch that are assumed, so that it is not guessed image by image.
    private static let resolution: Int32 = 70

    private let library: Library
    private let language: String
    private let idle = Mutex<[Engine]>([])

    /// Opens the library and reads a language's data.
    ///
    /// - Throws: `ModelError` that names the package which is missing.
    init(language: String) throws {
        library = try Library()
        self.language = language
        let engine = try engine()
        idle.withLock { $0.append(engine) }
    }

    /// What is written in an image, lines as they are found.
    ///
    /// - Throws: `ModelError` when it cannot be read.
    func text(of image: RGBImage) throws -> String {
        let engine = try idle.withLock { $0.popLast() } ?? engine()
        defer { idle.withLock { $0.append(engine) } }
        return try image.pixels.withUnsafeBufferPointer { pixels in
            library.setImage(
                engine.handle, pixels.baseAddress, Int32(image.width), Int32(image.height), 3, Int32(3 * image.width))
            library.setSourceResolution(engine.handle, Self.resolution)
            guard let text = library.getUTF8Text(engine.handle) else {
                throw ModelError(
                    code: .unsupported, source: Library.name,
                    message: "could not read an image of \(image.width) x \(image.height)")
            }
            defer { library.deleteText(text) }
            return String(cString: text)
        }
    }

    private func engine() throws -> Engine {
        guard let handle = library.create() else {
            throw ModelError(code: .unsupported, source: Library.name, message: "could not be started; is memory left?")
        }
        let engine = Engine(handle: handle, delete: library.delete)
        guard library.initialize(handle, nil, language) == 0 else {
            throw ModelError(
                code: .missing, source: Library.name,
                message: "has no data of the language \(language); apt-get install tesseract-ocr-\(language)")
        }
        _ = library.setVariable(handle, "debug_file", "/dev/null")
        library.setPageSegMode(handle, Self.sparseText)
        return engine
    }

    /// One engine of the library; `@unchecked Sendable` as whoever has taken it from `idle` has it alone.
    private final class Engine: @unchecked Sendable {
        let handle: OpaquePointer
        private let delete: Library.Delete

        init(handle: OpaquePointer, delete: @escaping Library.Delete) {
            self.handle = handle
            self.delete = delete
        }

        deinit { delete(handle) }
    }
}

extension Tesseract {
    /// The functions of its C interface, `tesseract/capi.h`, that are called.
    fileprivate struct Library: Sendable {
        static let name = "libtesseract.so.5"
        typealias Delete = @convention(c) @Sendable (OpaquePointer) -> Void

        let create: @convention(c) @Sendable () -> OpaquePointer?
        let initialize: @convention(c) @Sendable (OpaquePointer, UnsafePointer<CChar>?, UnsafePointer<CChar>) -> Int32
        let setVariable: @convention(c) @Sendable (OpaquePointer, UnsafePointer<CChar>, UnsafePointer<CChar>) -> Int32
        let setPageSegMode: @convention(c) @Sendable (OpaquePointer, Int32) -> Void
        let setImage:
            @convention(c) @Sendable (OpaquePointer, UnsafePointer<UInt8>?, Int32, Int32, Int32, Int32) -> Void
        let setSourceResolution: @convention(c) @Sendable (OpaquePointer, Int32) -> Void
        let getUTF8Text: @convention(c) @Sendable (OpaquePointer) -> UnsafeMutablePointer<CChar>?
        let deleteText: @convention(c) @Sendable (UnsafeMutablePointer<CChar>) -> Void
        let delete: Delete

        init() throws {
            guard let library = dlopen(Self.name, RTLD_NOW) else {
                throw ModelError(
                    code: .missing, source: Self.name,
                    message: "is not installed; apt-get install libtesseract5 tesseract-ocr-eng")
            }
            func function<Function>(_ name: String) throws -> Function {
                guard let symbol = dlsym(library, name) else {
                    throw ModelError(code: .unsupported, source: Self.name, message: "has no function \(name)")
                }
                return unsafeBitCast(symbol, to: Function.self)
            }
            create = try function("TessBaseAPICreate")
            initialize = try function("TessBaseAPIInit3")
            setVariable = try function("TessBaseAPISetVariable")
            setPageSegMode = try function("TessBaseAPISetPageSegMode")
            setImage = try function("TessBaseAPISetImage")
            setSourceResolution = try function("TessBaseAPISetSourceResolution")
            getUTF8Text = try function("TessBaseAPIGetUTF8Text")
            deleteText = try function("TessDeleteText")
            delete = try function("TessBaseAPIDelete")
        }
    }
}
