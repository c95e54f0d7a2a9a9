#include "CJPEG.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>

#include <jerror.h>

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

/// More scans than any encoder makes: a small file of many scans of a large picture would take minutes.
enum { MOST_SCANS = 500 };

struct cjpeg_decoder {
    struct jpeg_decompress_struct info;
    struct failure failure;
    struct jpeg_progress_mgr progress;
};

/// libjpeg goes on with gray pixels where data is missing or damaged; here that is an error.
static void fail_at_damage(j_common_ptr info, int level) {
    if (level >= 0) return;
    switch (info->err->msg_code) {
    case JWRN_JPEG_EOF:
    case JWRN_HIT_MARKER:
    case JWRN_HUFF_BAD_CODE:
    case JWRN_ARITH_BAD_CODE:
    case JWRN_MUST_RESYNC: fail(info);
    }
}

static void fail_at_many_scans(j_common_ptr info) {
    if (((j_decompress_ptr)info)->input_scan_number <= MOST_SCANS) return;
    struct failure *failure = (struct failure *)info->err;
    snprintf(failure->message, CJPEG_MESSAGE_SIZE, "more than %d scans", MOST_SCANS);
    longjmp(failure->place, 1);
}

struct cjpeg_decoder *cjpeg_open(const uint8_t *bytes, size_t count, struct cjpeg_header *header, char *message) {
    struct cjpeg_decoder *const decoder = calloc(1, sizeof *decoder);
    if (decoder == NULL) {
        snprintf(message, CJPEG_MESSAGE_SIZE, "out of memory");
        return NULL;
    }
    struct jpeg_decompress_struct *const info = &decoder->info;
    info->err = jpeg_std_error(&decoder->failure.manager);
    decoder->failure.manager.error_exit = fail;
    decoder->failure.manager.emit_message = fail_at_damage;
    decoder->failure.manager.output_message = be_silent;
    decoder->failure.message = message;
    decoder->progress.progress_monitor = fail_at_many_scans;
    if (setjmp(decoder->failure.place)) {
        cjpeg_close(decoder);
        return NULL;
    }
    jpeg_create_decompress(info);
    info->progress = &decoder->progress;
    jpeg_mem_src(info, bytes, count);
    jpeg_read_header(info, TRUE);
    if (info->data_precision != 8) {
        snprintf(message, CJPEG_MESSAGE_SIZE, "%d bits a component instead of 8", info->data_precision);
        cjpeg_close(decoder);
        return NULL;
    }
    const int is_print = info->jpeg_color_space == JCS_CMYK || info->jpeg_color_space == JCS_YCCK;
    info->out_color_space = is_print ? JCS_CMYK : JCS_RGB;
    header->width = (int)info->image_width;
    header->height = (int)info->image_height;
    header->components = is_print ? 4 : 3;
    return decoder;
}

int cjpeg_read(struct cjpeg_decoder *decoder, uint8_t *pixels, char *message) {
    struct jpeg_decompress_struct *const info = &decoder->info;
    decoder->failure.message = message;
    if (setjmp(decoder->failure.place)) return 0;
    jpeg_start_decompress(info);
    while (info->output_scanline < info->output_height) {
        JSAMPROW row = pixels + (size_t)info->output_scanline * info->output_width * info->output_components;
        jpeg_read_scanlines(info, &row, 1);
    }
    jpeg_finish_decompress(info);
    return 1;
}

void cjpeg_close(struct cjpeg_decoder *decoder) {
    jpeg_destroy_decompress(&decoder->info);
    free(decoder);
}
