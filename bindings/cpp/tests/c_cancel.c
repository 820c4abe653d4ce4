/* pthread_cancel of a thread that waits in a call: the call returns first, and the process lives. */

#include "c_support.h"

#include <pthread.h>
#include <stdbool.h>

static zb_error *error;
static zb_reader *reader;
static zb_writer *writer;
static zb_status outcome;

static void *read_one(void *unused)
{
    zb_frame frame;
    (void)unused;
    /* The other thread may be looking. */
    do
        outcome = zb_reader_read_frame(reader, WAIT_MS, &frame, NULL);
    while (outcome == ZB_ERROR_INVALID_STATE);
    zb_frame_release(&frame);
    pthread_testcancel();
    return NULL;
}

static void *write_two(void *unused)
{
    static uint8_t big[4000];
    (void)unused;
    do
        outcome = zb_writer_write_frame(writer, big, sizeof big, NULL, NULL);
    while (outcome == ZB_OK);
    pthread_testcancel();
    return NULL;
}

static void *connect_to_nothing(void *unused)
{
    zb_writer_options *options = zb_writer_options_new();
    zb_writer *none = NULL;
    (void)unused;
    CHECK(zb_writer_options_set_connect_timeout(options, 200) == ZB_OK);
    outcome = zb_writer_connect("zbtest-c-cancel-nothing", options, &none, NULL);
    zb_writer_options_free(options);
    pthread_testcancel();
    return NULL;
}

static void expect_cancelled(pthread_t thread, zb_status wanted)
{
    void *result = NULL;
    CHECK(pthread_join(thread, &result) == 0);
    CHECK(result == PTHREAD_CANCELED);
    CHECK(outcome == wanted);
}

/* In a classic ring the waits are those of semaphores. */
static void cancel_in_a_buffer(bool classic)
{
    pthread_t thread;
    zb_config *config = zb_config_new();
    CHECK(zb_config_set_payload_size(config, 4096) == ZB_OK);
    CHECK(zb_config_set_classic(config, classic) == ZB_OK);
    name_of(classic ? "cancel-classic" : "cancel");
    expect(zb_reader_create(name, config, &reader, &error), ZB_OK, &error);
    zb_config_free(config);
    expect(zb_writer_connect(name, NULL, &writer, &error), ZB_OK, &error);

    CHECK(pthread_create(&thread, NULL, read_one, NULL) == 0);
    CHECK(pthread_cancel(thread) == 0);
    while (zb_reader_get_metadata(reader, NULL, 0, &(size_t){0}, NULL) != ZB_ERROR_INVALID_STATE)
        usleep(100);
    /* In its call; it spins for up to a millisecond before it sleeps. */
    usleep(5000);
    expect(zb_writer_write_frame(writer, (const uint8_t *)"x", 1, NULL, &error), ZB_OK, &error);
    expect_cancelled(thread, ZB_OK);

    CHECK(pthread_create(&thread, NULL, write_two, NULL) == 0);
    CHECK(pthread_cancel(thread) == 0);
    while (zb_writer_frames_written(writer) < 2)
        usleep(100);
    /* In the call that finds no space. */
    usleep(5000);
    zb_writer_interrupt(writer);
    expect_cancelled(thread, ZB_ERROR_INTERRUPTED);

    zb_writer_free(writer);
    zb_reader_free(reader);
}

int main(void)
{
    pthread_t thread;
    cancel_in_a_buffer(false);
    cancel_in_a_buffer(true);
    CHECK(pthread_create(&thread, NULL, connect_to_nothing, NULL) == 0);
    CHECK(pthread_cancel(thread) == 0);
    expect_cancelled(thread, ZB_ERROR_BUFFER_NOT_FOUND);
    puts("a cancelled thread comes back from its call");
    return 0;
}
