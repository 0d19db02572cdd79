/* The frames file of bench/frames.py, turned once into wire bytes: what is sent is never built while the clock runs.
 *
 * File, little endian: "TTF1", u32 count, then per frame u32 length, i32 ms_at, i32 frac_at, payload.
 * ms_at: where 13 digits of milliseconds since 1970 lie in the payload, or -1.
 * frac_at: where 9 digits of nanoseconds within that second lie, or -1. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sender.h"

size_t header_write(unsigned char *to, int opcode, size_t len)
{
    to[0] = (unsigned char)(0x80 | opcode);
    if (len < 126) {
        to[1] = (unsigned char)len;
        return 2;
    }
    int wide = len > 65535, bytes = wide ? 8 : 2;
    to[1] = wide ? 127 : 126;
    for (int i = 0; i < bytes; i++)
        to[2 + i] = (unsigned char)((uint64_t)len >> (8 * (bytes - 1 - i)));
    return 2 + (size_t)bytes;
}

static unsigned char *whole_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return NULL;
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    unsigned char *data = malloc(*size + 1);
    if (data && fread(data, 1, *size, file) != *size) {
        free(data);
        data = NULL;
    }
    fclose(file);
    return data;
}

/* Returns 0, or -1 when the file is missing, short or of another kind. */
int frames_load(struct frames *f, const char *path)
{
    size_t size, at = 8, end = 0;
    uint32_t count, len;
    int32_t stamps[2];
    unsigned char *data = whole_file(path, &size);
    if (!data || size < 8 || memcmp(data, "TTF1", 4) != 0)
        return -1;
    memcpy(&count, data + 4, 4);
    f->n = count;
    f->list = calloc(count, sizeof *f->list);
    f->arena = malloc(size + (size_t)count * 10);
    for (uint32_t i = 0; i < count; i++) {
        if (at + 12 > size)
            return -1;
        memcpy(&len, data + at, 4);
        memcpy(stamps, data + at + 4, 8);
        at += 12;
        if (at + len > size || stamps[0] + 13 > (int64_t)len || stamps[1] + 9 > (int64_t)len)
            return -1;
        size_t header = header_write(f->arena + end, 1, len);
        memcpy(f->arena + end + header, data + at, len);
        f->list[i] = (struct frame){end, header + len, -1, -1};
        if (stamps[0] >= 0)
            f->list[i].ms_at = (int64_t)(end + header) + stamps[0];
        if (stamps[1] >= 0)
            f->list[i].frac_at = (int64_t)(end + header) + stamps[1];
        end += header + len;
        at += len;
    }
    free(data);
    return count ? 0 : -1;
}

static void digits(unsigned char *to, int width, int64_t value)
{
    for (int i = width - 1; i >= 0; i--) {
        to[i] = (unsigned char)('0' + value % 10);
        value /= 10;
    }
}

/* Write the instant into a frame's placeholders. The last instant's digits are kept: a burst shares them. */
void frames_stamp(struct frames *f, size_t index, int64_t now_ns)
{
    static int64_t last = -1;
    static unsigned char ms[13], frac[9];
    const struct frame *frame = &f->list[index];
    if (now_ns != last) {
        digits(ms, 13, now_ns / 1000000);
        digits(frac, 9, now_ns % 1000000000);
        last = now_ns;
    }
    if (frame->ms_at >= 0)
        memcpy(f->arena + frame->ms_at, ms, 13);
    if (frame->frac_at >= 0)
        memcpy(f->arena + frame->frac_at, frac, 9);
}
