/* Standard input, output and error are closed: files of the library take their numbers, and nothing is written to them. */

#include "c_support.h"

static int failed(int line)
{
    return line % 200 + 1;
}

#define MUST(condition)             \
    do {                            \
        if (!(condition))           \
            return failed(__LINE__); \
    } while (0)

int main(void)
{
    zb_reader *reader = NULL;
    zb_writer *writer = NULL;
    zb_frame frame;
    uint8_t data[64];
    char path[100];

    close(0);
    close(1);
    close(2);
    name_of("fds");
    memset(data, 'd', sizeof data);
    MUST(zb_reader_create(name, NULL, &reader, NULL) == ZB_OK);
    MUST(zb_writer_connect(name, NULL, &writer, NULL) == ZB_OK);
    for (int round = 0; round < 100; round++) {
        MUST(zb_writer_write_frame(writer, data, sizeof data, NULL, NULL) == ZB_OK);
        /* What a program prints must not get into the buffer. */
        MUST(write(1, "to standard output", 18) < 0 && write(2, "to standard error", 17) < 0);
        MUST(zb_reader_read_frame(reader, WAIT_MS, &frame, NULL) == ZB_OK);
        MUST(frame.size == sizeof data && memcmp(frame.data, data, sizeof data) == 0);
        zb_frame_release(&frame);
    }
    zb_writer_free(writer);
    MUST(zb_reader_read_frame(reader, WAIT_MS, &frame, NULL) == ZB_END_OF_STREAM);
    zb_reader_free(reader);
    snprintf(path, sizeof path, "/dev/shm/%s", name);
    MUST(access(path, F_OK) != 0);
    return 0;
}
