/* One reader, many outputs. */

#include "c_support.h"

#include <pthread.h>

#define FRAME 100000
#define MOST 4

static uint8_t big[FRAME];
static zb_error *error;
static char outputs[MOST][96];
static zb_reader *viewers[MOST];
static zb_writer *source;
static zb_tee *tee;

static zb_config *config_of(size_t payload)
{
    zb_config *config = zb_config_new();
    CHECK(zb_config_set_payload_size(config, payload) == ZB_OK);
    CHECK(zb_config_set_allow_payload_sharing(config, true) == ZB_OK);
    return config;
}

static zb_writer *output_to(const char *buffer, int64_t timeout_ms)
{
    zb_writer_options *options = zb_writer_options_new();
    zb_writer *writer = NULL;
    CHECK(zb_writer_options_set_request_payload_sharing(options, true) == ZB_OK);
    CHECK(zb_writer_options_set_write_timeout(options, timeout_ms) == ZB_OK);
    expect(zb_writer_connect(buffer, options, &writer, &error), ZB_OK, &error);
    zb_writer_options_free(options);
    return writer;
}

/* Adds the output of viewer `index`. `frames`: 0 for one that blocks. */
static void add(int index, size_t payload, size_t frames, int64_t timeout_ms)
{
    zb_config *config = config_of(payload);
    snprintf(outputs[index], sizeof outputs[index], "%s-%d", name, index);
    expect(zb_reader_create(outputs[index], config, &viewers[index], &error), ZB_OK, &error);
    zb_config_free(config);
    zb_writer *writer = output_to(outputs[index], timeout_ms);
    if (frames == 0)
        expect(zb_tee_add_block_output(tee, writer, &error), ZB_OK, &error);
    else
        expect(zb_tee_add_drop_output(tee, writer, frames, &error), ZB_OK, &error);
    /* The tee has it now. */
    expect(zb_writer_write_frame(writer, big, 1, NULL, &error), ZB_ERROR_CLOSED, &error);
    expect(zb_tee_add_block_output(tee, writer, &error), ZB_ERROR_CLOSED, &error);
    expect(zb_tee_add_drop_output(tee, writer, 2, &error), ZB_ERROR_CLOSED, &error);
    zb_writer_free(writer);
}

static void open_tee(const char *what)
{
    zb_config *config = config_of(1 << 20);
    zb_reader *reader = NULL;
    zb_frame frame;
    name_of(what);
    expect(zb_reader_create(name, config, &reader, &error), ZB_OK, &error);
    expect(zb_writer_connect(name, NULL, &source, &error), ZB_OK, &error);
    expect(zb_tee_create(reader, &tee, &error), ZB_OK, &error);
    CHECK(strcmp(zb_tee_name(tee), name) == 0);
    /* The tee has the reader now. */
    expect(zb_reader_read_frame(reader, 0, &frame, &error), ZB_ERROR_CLOSED, &error);
    zb_tee *second = tee;
    expect(zb_tee_create(reader, &second, &error), ZB_ERROR_CLOSED, &error);
    CHECK(second == NULL);
    zb_reader_free(reader);
    zb_config_free(config);
}

/* Files of a buffer are gone. */
static void gone(const char *buffer)
{
    char path[160];
    snprintf(path, sizeof path, "/dev/shm/%s", buffer);
    CHECK(access(path, F_OK) != 0);
}

static void close_tee(void)
{
    char pool[96];
    zb_tee_free(tee);
    zb_writer_free(source);
    for (int index = 0; index < MOST; index++) {
        zb_reader_free(viewers[index]);
        viewers[index] = NULL;
        if (outputs[index][0] != 0)
            gone(outputs[index]);
    }
    gone(name);
    snprintf(pool, sizeof pool, "%s_tee", name);
    gone(pool);
    tee = NULL;
    source = NULL;
}

static void send_one(uint8_t content, size_t size)
{
    memset(big, content, sizeof big);
    expect(zb_writer_write_frame(source, big, size, NULL, &error), ZB_OK, &error);
}

/* The viewer's next frame, which it keeps. */
static zb_frame seen_by(int index, uint8_t content, size_t size)
{
    zb_frame frame;
    memset(big, content, sizeof big);
    expect(zb_reader_read_frame(viewers[index], WAIT_MS, &frame, &error), ZB_OK, &error);
    CHECK(frame.size == size && memcmp(frame.data, big, size) == 0);
    return frame;
}

/* Returns whether it was shared. */
static bool passes(int index, uint8_t content, size_t size)
{
    zb_frame frame = seen_by(index, content, size);
    const bool shared = zb_frame_is_shared(&frame);
    zb_frame_release(&frame);
    return shared;
}

static zb_tee_output got(size_t index)
{
    zb_tee_output all[MOST];
    size_t count = 0;
    expect(zb_tee_outputs(tee, all, MOST, &count, &error), ZB_OK, &error);
    CHECK(index < count && count <= MOST);
    return all[index];
}

static void figures(size_t index, uint64_t shared, uint64_t copied, uint64_t dropped)
{
    const zb_tee_output output = got(index);
    CHECK(strcmp(output.name, outputs[index]) == 0);
    CHECK(output.frames_shared == shared && output.frames_copied == copied && output.frames_dropped == dropped);
}

static void every_output_gets_its_share(void)
{
    zb_frame frame, held[2];
    uint8_t *data;
    open_tee("tee-all");
    add(0, 1 << 20, 0, WAIT_MS);
    add(1, 1 << 20, 2, WAIT_MS);
    add(2, 1 << 20, 2, WAIT_MS);
    for (int round = 0; round < 20; round++) {
        send_one('a', FRAME);
        expect(zb_tee_step(tee, WAIT_MS, &error), ZB_OK, &error);
        CHECK(passes(0, 'a', FRAME) == (round > 0) && passes(1, 'a', FRAME) == (round > 0));
        if (round < 2)
            held[round] = seen_by(2, 'a', FRAME);
    }
    figures(0, 19, 1, 0);
    figures(1, 19, 1, 0);
    figures(2, 1, 1, 18);
    CHECK(got(0).bound == 0 && got(1).bound == 2 && got(2).ended == ZB_OK);
    /* What the stopped viewer holds has not changed; of it, one was shared. */
    send_one('b', FRAME);
    memset(big, 'a', sizeof big);
    CHECK(memcmp(held[0].data, big, FRAME) == 0 && memcmp(held[1].data, big, FRAME) == 0);
    CHECK(!zb_frame_is_shared(&held[0]) && zb_frame_is_shared(&held[1]));
    zb_frame_release(&held[0]);
    zb_frame_release(&held[1]);
    /* A filter in place. */
    expect(zb_tee_read_frame(tee, WAIT_MS, &frame, &error), ZB_OK, &error);
    expect(zb_frame_make_mut(&frame, &data, &error), ZB_OK, &error);
    memset(data, 'c', frame.size);
    expect(zb_tee_forward(tee, &frame, &error), ZB_OK, &error);
    CHECK(frame.data == NULL);
    for (int index = 0; index < 3; index++)
        CHECK(passes(index, 'c', FRAME));
    /* Small ones are copied. */
    send_one('s', 1000);
    expect(zb_tee_step(tee, WAIT_MS, &error), ZB_OK, &error);
    for (int index = 0; index < 3; index++)
        CHECK(!passes(index, 's', 1000));
    expect(zb_tee_step(tee, 1, &error), ZB_TIMEOUT, &error);
    expect(zb_tee_read_frame(tee, 0, &frame, &error), ZB_TIMEOUT, &error);
    CHECK(frame.data == NULL);
    expect(zb_writer_close(source, &error), ZB_OK, &error);
    expect(zb_tee_run(tee, &error), ZB_END_OF_STREAM, &error);
    expect(zb_tee_step(tee, 0, &error), ZB_TIMEOUT, &error);
    close_tee();
}

static void a_full_output_keeps_its_frame(void)
{
    zb_frame frame;
    open_tee("tee-full");
    add(0, 4096, 0, 0);
    add(1, 4096, 0, 0);
    add(2, 1 << 20, 1, 0);
    for (uint8_t number = 0; number < 4; number++) {
        send_one(number, 1000);
        expect(zb_tee_step(tee, WAIT_MS, &error), ZB_OK, &error);
        CHECK(!passes(0, number, 1000));
    }
    send_one(4, 1000);
    for (int round = 0; round < 2; round++)
        expect(zb_tee_step(tee, WAIT_MS, &error), ZB_ERROR_BUFFER_FULL, &error);
    zb_error *own = NULL;
    CHECK(zb_tee_flush(tee, &own) == ZB_ERROR_BUFFER_FULL);
    CHECK(strcmp(zb_error_buffer(own), outputs[1]) == 0);
    zb_error_free(own);
    expect(zb_tee_read_frame(tee, WAIT_MS, &frame, &error), ZB_ERROR_BUFFER_FULL, &error);
    CHECK(frame.data == NULL);
    CHECK(!passes(0, 4, 1000));
    CHECK(!passes(1, 0, 1000));
    expect(zb_tee_flush(tee, &error), ZB_OK, &error);
    expect(zb_tee_flush(tee, &error), ZB_OK, &error);
    for (uint8_t number = 1; number < 5; number++)
        CHECK(!passes(1, number, 1000));
    figures(0, 0, 5, 0);
    figures(1, 0, 5, 0);
    figures(2, 0, 1, 4);
    /* One that is too large for an output reaches the others. */
    send_one('l', FRAME);
    expect(zb_tee_step(tee, WAIT_MS, &error), ZB_ERROR_FRAME_TOO_LARGE, &error);
    CHECK(!passes(2, 0, 1000));
    send_one('m', FRAME);
    expect(zb_tee_step(tee, WAIT_MS, &error), ZB_ERROR_FRAME_TOO_LARGE, &error);
    CHECK(!passes(2, 'm', FRAME));
    figures(0, 0, 5, 2);
    figures(1, 0, 5, 2);
    figures(2, 0, 2, 5);
    close_tee();
}

static void outputs_end_and_are_removed(void)
{
    bool removed = true;
    const char *nul = NULL;
    zb_frame end;
    open_tee("tee-ends");
    add(0, 1 << 20, 0, WAIT_MS);
    add(1, 1 << 20, 2, WAIT_MS);
    add(2, 1 << 20, 0, WAIT_MS);
    zb_reader_free(viewers[0]);
    viewers[0] = NULL;
    /* A writer looks at its reader every 10 ms. */
    zb_status status = ZB_OK;
    zb_error *ended = NULL;
    int rounds = 0;
    while (status == ZB_OK && rounds < 1000) {
        send_one('e', 1000);
        status = zb_tee_step(tee, WAIT_MS, &ended);
        CHECK(!passes(1, 'e', 1000) && !passes(2, 'e', 1000));
        rounds++;
        usleep(1000);
    }
    CHECK(ended != NULL && strcmp(zb_error_buffer(ended), outputs[0]) == 0);
    expect(status, ZB_ERROR_READER_DEAD, &ended);
    CHECK(got(0).ended == ZB_ERROR_READER_DEAD && got(1).ended == ZB_OK && got(2).ended == ZB_OK);
    send_one('f', 1000);
    expect(zb_tee_step(tee, WAIT_MS, &error), ZB_OK, &error);
    CHECK(!passes(1, 'f', 1000) && !passes(2, 'f', 1000));
    /* By name, whether that ends with a zero byte or not. */
    expect(zb_tee_remove_output(tee, "nothing of that name", &removed, &error), ZB_OK, &error);
    CHECK(!removed);
    expect(zb_tee_remove_output_n(tee, outputs[1], strlen(outputs[1]) - 1, &removed, &error), ZB_OK, &error);
    CHECK(!removed);
    char longer[sizeof outputs[1] + 8];
    snprintf(longer, sizeof longer, "%sxyz", outputs[1]);
    expect(zb_tee_remove_output_n(tee, longer, strlen(outputs[1]), &removed, &error), ZB_OK, &error);
    CHECK(removed);
    expect(zb_reader_read_frame(viewers[1], WAIT_MS, &end, &error), ZB_END_OF_STREAM, &error);
    expect(zb_tee_remove_output(tee, outputs[2], NULL, &error), ZB_OK, &error);
    expect(zb_reader_read_frame(viewers[2], WAIT_MS, &end, &error), ZB_END_OF_STREAM, &error);
    removed = true;
    expect(zb_tee_remove_output(tee, nul, &removed, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_tee_remove_output(tee, "\xff\xfe", &removed, &error), ZB_ERROR_INVALID_NAME, &error);
    expect(zb_tee_remove_output_n(tee, outputs[2], SIZE_MAX, &removed, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    close_tee();
}

static void *runs(void *none)
{
    zb_error *own = NULL;
    const zb_status status = zb_tee_run(tee, &own);
    CHECK(own != NULL);
    zb_error_free(own);
    *(zb_status *)none = status;
    return none;
}

/* Waits until another thread is inside the tee. */
static void wait_until_used(void)
{
    for (int round = 0; round < WAIT_MS; round++) {
        size_t count = 0;
        zb_error *own = NULL;
        const zb_status status = zb_tee_outputs(tee, NULL, 0, &count, &own);
        zb_error_free(own);
        if (status == ZB_ERROR_INVALID_STATE)
            return;
        usleep(1000);
    }
    CHECK(!"the other thread does not come");
}

static void ended_from_another_thread(void)
{
    pthread_t thread;
    zb_status status = ZB_OK;
    zb_frame frame = {0};
    size_t count = 7;
    open_tee("tee-threads");
    add(0, 1 << 20, 0, WAIT_MS);
    /* An interrupt that comes before a call ends the next one that waits. */
    zb_tee_interrupt(tee);
    expect(zb_tee_step(tee, WAIT_MS, &error), ZB_ERROR_INTERRUPTED, &error);
    CHECK(pthread_create(&thread, NULL, runs, &status) == 0);
    wait_until_used();
    expect(zb_tee_step(tee, 0, &error), ZB_ERROR_INVALID_STATE, &error);
    expect(zb_tee_flush(tee, &error), ZB_ERROR_INVALID_STATE, &error);
    expect(zb_tee_remove_output(tee, outputs[0], NULL, &error), ZB_ERROR_INVALID_STATE, &error);
    CHECK(strcmp(zb_tee_name(tee), name) == 0);
    zb_tee_interrupt(tee);
    CHECK(pthread_join(thread, NULL) == 0 && status == ZB_ERROR_INTERRUPTED);
    CHECK(pthread_create(&thread, NULL, runs, &status) == 0);
    wait_until_used();
    expect(zb_tee_close(tee, &error), ZB_OK, &error);
    CHECK(pthread_join(thread, NULL) == 0 && status == ZB_ERROR_CLOSED);
    expect(zb_tee_close(tee, &error), ZB_OK, &error);
    zb_tee_interrupt(tee);
    CHECK(strcmp(zb_tee_name(tee), name) == 0);
    zb_writer *writer = output_to(outputs[0], 0);
    expect(zb_tee_step(tee, 0, &error), ZB_ERROR_CLOSED, &error);
    expect(zb_tee_run(tee, &error), ZB_ERROR_CLOSED, &error);
    expect(zb_tee_flush(tee, &error), ZB_ERROR_CLOSED, &error);
    expect(zb_tee_read_frame(tee, 0, &frame, &error), ZB_ERROR_CLOSED, &error);
    expect(zb_tee_forward(tee, &frame, &error), ZB_ERROR_CLOSED, &error);
    expect(zb_tee_outputs(tee, NULL, 0, &count, &error), ZB_ERROR_CLOSED, &error);
    CHECK(count == 0);
    expect(zb_tee_remove_output(tee, outputs[0], NULL, &error), ZB_ERROR_CLOSED, &error);
    /* A closed tee takes no writer over. */
    expect(zb_tee_add_block_output(tee, writer, &error), ZB_ERROR_CLOSED, &error);
    expect(zb_tee_add_drop_output(tee, writer, 2, &error), ZB_ERROR_CLOSED, &error);
    expect(zb_writer_write_frame(writer, big, 10, NULL, &error), ZB_OK, &error);
    zb_writer_free(writer);
    close_tee();
}

/* A writer that keeps the buffer it made until a reader comes. */
static void an_output_of_its_own_making(void)
{
    zb_config *config = config_of(1 << 20);
    zb_reader *reader = NULL;
    zb_writer *writer = NULL;
    name_of("tee-own");
    snprintf(outputs[0], sizeof outputs[0], "%s-0", name);
    for (int round = 0; round < 2; round++) {
        expect(zb_reader_create(name, config, &reader, &error), ZB_OK, &error);
        expect(zb_writer_connect(name, NULL, &source, &error), ZB_OK, &error);
        expect(zb_shared_writer_create(outputs[0], reader, NULL, NULL, &writer, &error), ZB_OK, &error);
        expect(zb_tee_create(reader, &tee, &error), ZB_OK, &error);
        expect(zb_tee_add_block_output(tee, writer, &error), ZB_OK, &error);
        zb_writer_free(writer);
        zb_reader_free(reader);
        send_one('o', FRAME);
        expect(zb_tee_step(tee, WAIT_MS, &error), ZB_OK, &error);
        if (round == 0) {
            expect(zb_reader_create(outputs[0], config, &viewers[0], &error), ZB_OK, &error);
            CHECK(!passes(0, 'o', FRAME));
            send_one('p', FRAME);
            expect(zb_tee_step(tee, WAIT_MS, &error), ZB_OK, &error);
            CHECK(passes(0, 'p', FRAME));
        }
        /* In the second round no reader has come: the buffer goes with its tee. */
        close_tee();
    }
    zb_config_free(config);
}

static void refused(void)
{
    zb_frame empty = {0}, copy;
    zb_tee_output some[2];
    zb_tee *none = NULL;
    zb_reader *reader = NULL;
    zb_writer *writer = NULL;
    size_t count = 0;
    open_tee("tee-refused");
    add(0, 1 << 20, 0, WAIT_MS);
    add(1, 1 << 20, SIZE_MAX, WAIT_MS);
    CHECK(got(1).bound == SIZE_MAX);
    expect(zb_tee_create(NULL, &none, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    name_of("tee-refused-2");
    expect(zb_reader_create(name, NULL, &reader, &error), ZB_OK, &error);
    expect(zb_tee_create(reader, NULL, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    /* It was not taken over, nor is one that is about to lend a frame lost. */
    expect(zb_writer_connect(name, NULL, &writer, &error), ZB_OK, &error);
    expect(zb_writer_write_frame(writer, big, 10, NULL, &error), ZB_OK, &error);
    zb_frame_ref lent;
    expect(zb_reader_read_frame_ref(reader, WAIT_MS, &lent, &error), ZB_OK, &error);
    expect(zb_tee_create(reader, &none, &error), ZB_OK, &error);
    expect(zb_tee_add_block_output(NULL, writer, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_tee_add_block_output(none, NULL, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_tee_add_drop_output(NULL, writer, 2, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_tee_add_drop_output(none, NULL, 2, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_writer_write_frame(writer, big, 10, NULL, &error), ZB_OK, &error);
    zb_tee_free(none);
    zb_reader_free(reader);
    zb_writer_free(writer);
    name_of("tee-refused");

    expect(zb_tee_step(NULL, 0, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_tee_run(NULL, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_tee_flush(NULL, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_tee_close(NULL, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_tee_read_frame(NULL, 0, &empty, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_tee_read_frame(tee, 0, NULL, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_tee_remove_output(NULL, name, NULL, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_tee_forward(NULL, &empty, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_tee_forward(tee, NULL, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_tee_forward(tee, &empty, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_frame_copy_of((const uint8_t *)"abc", 3, 1, &copy, &error), ZB_OK, &error);
    expect(zb_tee_forward(tee, &copy, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    CHECK(copy.size == 3 && memcmp(copy.data, "abc", 3) == 0);
    zb_frame_release(&copy);
    CHECK(zb_tee_name(NULL) == NULL);
    zb_tee_interrupt(NULL);
    zb_tee_free(NULL);
    /* No error object is wanted. */
    CHECK(zb_tee_step(NULL, 0, NULL) == ZB_ERROR_INVALID_ARGUMENT);
    CHECK(zb_tee_step(tee, 0, NULL) == ZB_TIMEOUT);

    /* Room for fewer outputs than there are, and for none. */
    memset(some, 0x5a, sizeof some);
    expect(zb_tee_outputs(tee, some, 1, &count, &error), ZB_OK, &error);
    CHECK(count == 2 && strcmp(some[0].name, outputs[0]) == 0);
    const uint8_t *behind = (const uint8_t *)&some[1];
    for (size_t at = 0; at < sizeof some[1]; at++)
        CHECK(behind[at] == 0x5a);
    expect(zb_tee_outputs(tee, NULL, 0, &count, &error), ZB_OK, &error);
    CHECK(count == 2);
    expect(zb_tee_outputs(tee, NULL, 1, &count, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    CHECK(count == 0);
    expect(zb_tee_outputs(tee, some, 2, NULL, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_tee_outputs(NULL, some, 2, &count, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    /* It still works. A frame of another reader goes through it, too. */
    send_one('w', FRAME);
    expect(zb_tee_step(tee, WAIT_MS, &error), ZB_OK, &error);
    CHECK(!passes(0, 'w', FRAME) && !passes(1, 'w', FRAME));
    send_one('x', FRAME);
    expect(zb_tee_step(tee, WAIT_MS, &error), ZB_OK, &error);
    zb_frame again = seen_by(0, 'x', FRAME);
    CHECK(zb_frame_is_shared(&again) && !passes(1, 'x', FRAME));
    expect(zb_tee_forward(tee, &again, &error), ZB_OK, &error);
    CHECK(again.data == NULL);
    CHECK(!passes(0, 'x', FRAME) && !passes(1, 'x', FRAME));
    close_tee();
}

int main(void)
{
    every_output_gets_its_share();
    a_full_output_keeps_its_frame();
    outputs_end_and_are_removed();
    ended_from_another_thread();
    an_output_of_its_own_making();
    refused();
    return 0;
}
