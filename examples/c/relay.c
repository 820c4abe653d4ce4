/* A stage of a pipeline: `relay IN OUT` reads frames from one buffer and writes them, inverted, to the next.
 * Before it, something that reads OUT (`stream reader OUT`); after it, something that writes IN (`stream writer IN`). */
#include <stdio.h>
#include <zerobuffer/zerobuffer_c.h>

int main(int count, char **arguments) {
    if (count != 3) {
        fputs("usage: relay IN OUT\n", stderr);
        return 2;
    }
    zb_error *error = NULL;
    zb_reader *reader = NULL;
    zb_writer *writer = NULL;
    zb_writer_options *options = zb_writer_options_new();
    zb_writer_options_set_connect_timeout(options, 10000);
    zb_status status = zb_reader_create(arguments[1], NULL, &reader, &error);
    if (status == ZB_OK) status = zb_writer_connect(arguments[2], options, &writer, &error);
    zb_writer_options_free(options);
    if (status == ZB_OK) status = zb_reader_wait_for_writer(reader, 30000, &error);

    while (status == ZB_OK) {
        zb_frame frame;
        status = zb_reader_read_frame(reader, 5000, &frame, &error);
        if (status != ZB_OK) break;
        /* The bytes go from the one buffer to the other once, and are changed on the way. */
        uint8_t *target = NULL;
        status = zb_writer_acquire_frame_buffer(writer, frame.size, &target, &error);
        if (status == ZB_OK) {
            for (size_t i = 0; i < frame.size; i++) target[i] = (uint8_t)(255 - frame.data[i]);
            status = zb_writer_commit_frame(writer, ZB_WHOLE_FRAME, NULL, &error);
        }
        zb_frame_release(&frame);
    }

    if (status < 0) fprintf(stderr, "%s\n", zb_error_message(error));
    zb_error_free(error);
    zb_writer_free(writer);
    zb_reader_free(reader);
    return status < 0 ? 1 : 0;
}
