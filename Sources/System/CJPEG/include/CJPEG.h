#pragma once
#include <stddef.h>
#include <stdint.h>

/// Most bytes of an error message, the terminating zero included.
enum { CJPEG_MESSAGE_SIZE = 256 };

/// Encodes 8-bit RGB rows as a baseline JPEG with libjpeg's defaults (4:2:0, its own Huffman tables).
///
/// libjpeg reports errors by a jump over its caller's frames, which Swift frames do not survive; it stays in here.
///
/// - pixels: row-major [height, width, 3].
/// - quality: 1...100.
/// - bytes: receives the file's bytes, to be released with free(3); null on failure.
/// - message: at least CJPEG_MESSAGE_SIZE bytes; receives libjpeg's words on failure.
/// - Returns: the number of bytes, 0 on failure.
size_t cjpeg_encode(
    const uint8_t *pixels, int width, int height, int quality, unsigned char **bytes, char *message);

/// A JPEG file that is being decoded.
struct cjpeg_decoder;

/// What its header says.
struct cjpeg_header {
    int width;
    int height;
    /// 3: red, green, blue, also of a gray file; 4: cyan, magenta, yellow, black as stored, which is inverted (255 is no ink).
    int components;
};

/// Reads the header of a JPEG file of 8 bits a component: baseline, progressive or arithmetic, whatever its colours.
///
/// - bytes: the whole file; must outlive the decoder.
/// - message: at least CJPEG_MESSAGE_SIZE bytes; receives the reason on failure.
/// - Returns: a decoder to be closed, null on failure.
struct cjpeg_decoder *cjpeg_open(const uint8_t *bytes, size_t count, struct cjpeg_header *header, char *message);

/// Decodes the pixels, once. A file that ends too soon or is damaged where libjpeg sees it is a failure.
///
/// - pixels: receives row-major [height, width, components].
/// - message: at least CJPEG_MESSAGE_SIZE bytes; receives the reason on failure.
/// - Returns: 1, 0 on failure.
int cjpeg_read(struct cjpeg_decoder *decoder, uint8_t *pixels, char *message);

/// Releases a decoder.
void cjpeg_close(struct cjpeg_decoder *decoder);
