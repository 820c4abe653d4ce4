/* Pictures without a copy: `in_place viewer NAME` in one terminal, `in_place camera NAME` in another. */
#include <stdio.h>
#include <string.h>
#include <zerobuffer/zerobuffer_c.h>

enum { WIDTH = 640, HEIGHT = 480 };

static int failed(zb_error *error) {
    fprintf(stderr, "%s\n", zb_error_message(error));
    zb_error_free(error);
    return 1;
}

/* Measures each picture where it lies in shared memory. */
static int view(const char *name) {
    zb_error *error = NULL;
    zb_reader *reader = NULL;
    if (zb_reader_create(name, NULL, &reader, &error) < 0) return failed(error);
    zb_status status = zb_reader_wait_for_writer(reader, 30000, &error);
    while (status == ZB_OK) {
        zb_frame picture;
        status = zb_reader_read_frame(reader, 5000, &picture, &error);
        if (status == ZB_OK) {
            unsigned long long sum = 0;
            for (size_t i = 0; i < picture.size; i++) sum += picture.data[i];
            printf("picture %llu: mean brightness %llu\n", (unsigned long long)picture.sequence, sum / picture.size);
            zb_frame_release(&picture); /* the space goes back to the camera */
        }
    }
    zb_reader_free(reader);
    return status < 0 ? failed(error) : 0;
}

/* Draws three pictures directly into shared memory. */
static int film(const char *name) {
    zb_error *error = NULL;
    zb_writer *writer = NULL;
    zb_writer_options *options = zb_writer_options_new();
    zb_writer_options_set_connect_timeout(options, 10000);
    zb_status status = zb_writer_connect(name, options, &writer, &error);
    zb_writer_options_free(options);
    for (int number = 0; number < 3 && status == ZB_OK; number++) {
        uint8_t *picture = NULL;
        status = zb_writer_acquire_frame_buffer(writer, (size_t)WIDTH * HEIGHT, &picture, &error);
        if (status != ZB_OK) break;
        for (int y = 0; y < HEIGHT; y++)
            for (int x = 0; x < WIDTH; x++) picture[y * WIDTH + x] = (uint8_t)((x + y) / 8 + 20 * number);
        status = zb_writer_commit_frame(writer, ZB_WHOLE_FRAME, NULL, &error);
    }
    zb_writer_free(writer);
    return status < 0 ? failed(error) : 0;
}

int main(int count, char **arguments) {
    if (count == 3 && strcmp(arguments[1], "viewer") == 0) return view(arguments[2]);
    if (count == 3 && strcmp(arguments[1], "camera") == 0) return film(arguments[2]);
    fputs("usage: in_place viewer|camera NAME\n", stderr);
    return 2;
}
