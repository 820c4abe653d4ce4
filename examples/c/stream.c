/* A stream of frames: `stream reader NAME` in one terminal, `stream writer NAME` in another. */
#include <stdio.h>
#include <string.h>
#include <zerobuffer/zerobuffer_c.h>

/* Prints what went wrong (buffer, cause, way out) and returns the exit code. */
static int failed(zb_error *error) {
    fprintf(stderr, "%s\n", zb_error_message(error));
    zb_error_free(error);
    return 1;
}

/* Creates the buffer and prints each frame, until the writer closes. */
static int read_frames(const char *name) {
    zb_error *error = NULL;
    zb_reader *reader = NULL;
    if (zb_reader_create(name, NULL, &reader, &error) < 0) return failed(error);
    zb_status status = zb_reader_wait_for_writer(reader, 30000, &error);
    while (status == ZB_OK) {
        zb_frame frame;
        status = zb_reader_read_frame(reader, 5000, &frame, &error);
        if (status == ZB_OK) {
            printf("%llu: %.*s\n", (unsigned long long)frame.sequence, (int)frame.size, (const char *)frame.data);
            zb_frame_release(&frame);
        }
    }
    zb_reader_free(reader);
    if (status < 0) return failed(error);
    puts(status == ZB_END_OF_STREAM ? "end of stream" : "no frame in time");
    return 0;
}

/* Connects to the buffer and writes five frames. */
static int write_frames(const char *name) {
    zb_error *error = NULL;
    zb_writer *writer = NULL;
    zb_writer_options *options = zb_writer_options_new();
    zb_writer_options_set_connect_timeout(options, 10000);
    zb_status status = zb_writer_connect(name, options, &writer, &error);
    zb_writer_options_free(options);
    for (int number = 1; number <= 5 && status == ZB_OK; number++) {
        char text[32];
        int size = snprintf(text, sizeof text, "frame %d of 5", number);
        status = zb_writer_write_frame(writer, (const uint8_t *)text, (size_t)size, NULL, &error);
    }
    zb_writer_free(writer);
    return status < 0 ? failed(error) : 0;
}

int main(int count, char **arguments) {
    if (count == 3 && strcmp(arguments[1], "reader") == 0) return read_frames(arguments[2]);
    if (count == 3 && strcmp(arguments[1], "writer") == 0) return write_frames(arguments[2]);
    fputs("usage: stream reader|writer NAME\n", stderr);
    return 2;
}
