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
