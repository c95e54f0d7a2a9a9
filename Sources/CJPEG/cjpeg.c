#include "CJPEG.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>

_Static_assert(CJPEG_MESSAGE_SIZE >= JMSG_LENGTH_MAX, "libjpeg's messages fit");

struct failure {
    struct jpeg_error_mgr manager;
    jmp_buf place;
    char *message;
};

static void fail(j_common_ptr info) {
    struct failure *failure = (struct failure *)info->err;
    failure->manager.format_message(info, failure->message);
    longjmp(failure->place, 1);
}

static void be_silent(j_common_ptr info) { (void)info; }

size_t cjpeg_encode(
    const uint8_t *pixels, int width, int height, int quality, unsigned char **bytes, char *message) {
    struct jpeg_compress_struct info;
    struct failure failure;
    // At 4:2:0 no file is larger (libjpeg-turbo's tjBufSize), so libjpeg never replaces this memory by its own, which could not be
    // released after a jump.
    const size_t columns = ((size_t)width + 15) / 16 * 16, rows = ((size_t)height + 15) / 16 * 16;
    unsigned long size = columns * rows * 3 + 2048;
    unsigned char *const memory = malloc(size);
    *bytes = NULL;
    if (memory == NULL) {
        snprintf(message, CJPEG_MESSAGE_SIZE, "out of memory");
        return 0;
    }
    *bytes = memory;
    info.err = jpeg_std_error(&failure.manager);
    failure.manager.error_exit = fail;
    failure.manager.output_message = be_silent;
    failure.message = message;
    if (setjmp(failure.place)) {
        jpeg_destroy_compress(&info);
        free(memory);
        *bytes = NULL;
        return 0;
    }
    jpeg_create_compress(&info);
    jpeg_mem_dest(&info, bytes, &size);
    info.image_width = (JDIMENSION)width;
    info.image_height = (JDIMENSION)height;
    info.input_components = 3;
    info.in_color_space = JCS_RGB;
    jpeg_set_defaults(&info);
    jpeg_set_quality(&info, quality, TRUE);
    jpeg_start_compress(&info, TRUE);
    while (info.next_scanline < info.image_height) {
        // libjpeg reads the row and does not write it.
        JSAMPROW row = (JSAMPROW)(pixels + (size_t)info.next_scanline * (size_t)width * 3);
        jpeg_write_scanlines(&info, &row, 1);
    }
    jpeg_finish_compress(&info);
    jpeg_destroy_compress(&info);
    if (*bytes != memory) free(memory);
    return size;
}
