/* Closing while a call is under way: on another thread, in a forked child, from the call's own log callback. */

#include "c_support.h"

#include <pthread.h>
#include <sys/wait.h>

static zb_error *error;
static zb_reader *reader;
static zb_writer *writer;

static void open_buffer(const char *what)
{
    name_of(what);
    zb_config *config = zb_config_new();
    CHECK(zb_config_set_payload_size(config, 4096) == ZB_OK);
    expect(zb_reader_create(name, config, &reader, &error), ZB_OK, &error);
    zb_config_free(config);
    expect(zb_writer_connect(name, NULL, &writer, &error), ZB_OK, &error);
}

static void close_buffer(void)
{
    zb_writer_free(writer);
    zb_reader_free(reader);
    char path[100];
    snprintf(path, sizeof path, "/dev/shm/%s", name);
    CHECK(access(path, F_OK) != 0);
}

static zb_status outcome;

static void *read_one(void *unused)
{
    zb_frame frame;
    (void)unused;
    outcome = zb_reader_read_frame(reader, WAIT_MS, &frame, NULL);
    zb_frame_release(&frame);
    return NULL;
}

static void *write_two(void *unused)
{
    static uint8_t big[4000];
    (void)unused;
    do
        outcome = zb_writer_write_frame(writer, big, sizeof big, NULL, NULL);
    while (outcome == ZB_OK);
    return NULL;
}

/* Each returns when another thread is in a call of the handle. */
static void await_reading(void)
{
    while (zb_reader_get_metadata(reader, NULL, 0, &(size_t){0}, NULL) != ZB_ERROR_INVALID_STATE)
        usleep(100);
}

static void await_writing(void)
{
    while (zb_writer_max_frame_size(writer, &(size_t){0}, NULL) != ZB_ERROR_INVALID_STATE)
        usleep(100);
}

/* A call that a close ends returns CLOSED; a call that an interrupt ends returns INTERRUPTED. */
static void ended(void)
{
    pthread_t thread;
    open_buffer("ended");
    CHECK(pthread_create(&thread, NULL, read_one, NULL) == 0);
    await_reading();
    zb_reader_interrupt(reader);
    CHECK(pthread_join(thread, NULL) == 0 && outcome == ZB_ERROR_INTERRUPTED);
    CHECK(pthread_create(&thread, NULL, read_one, NULL) == 0);
    await_reading();
    expect(zb_reader_close(reader, &error), ZB_OK, &error);
    CHECK(pthread_join(thread, NULL) == 0 && outcome == ZB_ERROR_CLOSED);
    close_buffer();

    open_buffer("full");
    CHECK(pthread_create(&thread, NULL, write_two, NULL) == 0);
    while (zb_writer_frames_written(writer) == 0)
        usleep(100);
    await_writing();
    expect(zb_writer_close(writer, &error), ZB_OK, &error);
    CHECK(pthread_join(thread, NULL) == 0 && outcome == ZB_ERROR_CLOSED);
    close_buffer();

    /* An interrupt that is not wanted any more is withdrawn. */
    open_buffer("cleared");
    zb_frame frame;
    zb_reader_interrupt(reader);
    zb_reader_clear_interrupt(reader);
    expect(zb_reader_read_frame(reader, 1, &frame, &error), ZB_TIMEOUT, &error);
    zb_writer_interrupt(writer);
    zb_writer_clear_interrupt(writer);
    expect(zb_writer_write_frame(writer, (const uint8_t *)"x", 1, NULL, &error), ZB_OK, &error);
    zb_reader_clear_interrupt(NULL);
    zb_writer_clear_interrupt(NULL);
    close_buffer();
}

/* Neither close nor free in a forked child waits for a thread that is not there, and neither takes the buffer from the parent. */
static void forked(void)
{
    pthread_t threads[2];
    bool there = false;
    open_buffer("forked");
    CHECK(pthread_create(&threads[0], NULL, read_one, NULL) == 0);
    await_reading();
    pid_t child = fork();
    if (child == 0) {
        alarm(10);
        zb_frame frame;
        if (zb_reader_read_frame(reader, 0, &frame, NULL) != ZB_ERROR_INVALID_STATE)
            _exit(1);
        if (zb_reader_is_writer_connected(reader, &there, NULL) == ZB_OK && there)
            _exit(2);
        if (zb_reader_release_frame_ref_of(reader, 1, NULL) != ZB_OK)
            _exit(3);
        if (zb_reader_close(reader, NULL) != ZB_OK)
            _exit(4);
        zb_writer_close(writer, NULL);
        zb_writer_free(writer);
        zb_reader_free(reader);
        _exit(0);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child);
    if (status != 0)
        fprintf(stderr, "the child ended with %#x\n", (unsigned)status);
    CHECK(status == 0);
    expect(zb_writer_write_frame(writer, (const uint8_t *)"still here", 10, NULL, &error), ZB_OK, &error);
    CHECK(pthread_join(threads[0], NULL) == 0 && outcome == ZB_OK);
    close_buffer();
}

static int messages;

static void close_it(void *unused, zb_log_level level, const char *target, const char *message)
{
    zb_frame frame;
    (void)unused, (void)level, (void)target, (void)message;
    messages++;
    CHECK(zb_reader_read_frame(reader, 0, &frame, NULL) == ZB_ERROR_INVALID_STATE || messages > 1);
    CHECK(zb_reader_close(reader, NULL) == ZB_OK);
}

/* A log callback closes the reader whose call logs. */
static void from_a_log_callback(void)
{
    zb_frame frame;
    char path[100];
    open_buffer("log");
    expect(zb_set_logger(close_it, ZB_LOG_TRACE, NULL, NULL, &error), ZB_OK, &error);
    /* As a cleaner of temporary files does it; a reader that waits notices within a second, and warns. */
    snprintf(path, sizeof path, "/dev/shm/%s", name);
    CHECK(unlink(path) == 0);
    alarm(20);
    expect(zb_reader_read_frame(reader, 5000, &frame, &error), ZB_ERROR_CLOSED, &error);
    alarm(0);
    CHECK(messages >= 1);
    expect(zb_set_logger(NULL, ZB_LOG_OFF, NULL, NULL, &error), ZB_OK, &error);
    expect(zb_reader_read_frame(reader, 0, &frame, &error), ZB_ERROR_CLOSED, &error);
    close_buffer();
}

int main(void)
{
    ended();
    forked();
    from_a_log_callback();
    return 0;
}
