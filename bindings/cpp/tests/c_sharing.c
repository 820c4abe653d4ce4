/* Frames that are passed on without a copy. */

#include "c_support.h"

#include <pthread.h>
#include <sys/wait.h>

#define FRAME 100000

static uint8_t big[FRAME];
static zb_error *error;
static char display[80];
static zb_reader *input, *viewer;
static zb_writer *source, *output;

static zb_config *sharing_config(void)
{
    zb_config *config = zb_config_new();
    CHECK(zb_config_set_payload_size(config, 1 << 20) == ZB_OK);
    CHECK(zb_config_set_allow_payload_sharing(config, true) == ZB_OK);
    return config;
}

/* A relay between two buffers; the readers of both share if they are told to. */
static void open_relay(const char *what, bool request)
{
    zb_config *config = sharing_config();
    zb_writer_options *options = zb_writer_options_new();
    name_of(what);
    snprintf(display, sizeof display, "%s-display", name);
    CHECK(zb_writer_options_set_request_payload_sharing(options, request) == ZB_OK);
    expect(zb_reader_create(name, config, &input, &error), ZB_OK, &error);
    expect(zb_reader_create(display, config, &viewer, &error), ZB_OK, &error);
    expect(zb_writer_connect(name, NULL, &source, &error), ZB_OK, &error);
    expect(zb_writer_connect(display, options, &output, &error), ZB_OK, &error);
    zb_writer_options_free(options);
    zb_config_free(config);
}

static void close_relay(void)
{
    zb_writer_free(output);
    zb_writer_free(source);
    zb_reader_free(viewer);
    zb_reader_free(input);
}

static void send_one(uint8_t content)
{
    memset(big, content, sizeof big);
    expect(zb_writer_write_frame(source, big, sizeof big, NULL, &error), ZB_OK, &error);
}

static void read_one(zb_reader *reader, zb_frame *frame)
{
    expect(zb_reader_read_frame(reader, WAIT_MS, frame, &error), ZB_OK, &error);
}

/* The viewer's next frame is the one that was sent last; returns whether it lies in the first buffer. */
static bool viewed(void)
{
    zb_frame frame;
    read_one(viewer, &frame);
    CHECK(frame.size == sizeof big && memcmp(frame.data, big, sizeof big) == 0);
    const bool shared = zb_frame_is_shared(&frame);
    zb_frame_release(&frame);
    CHECK(!zb_frame_is_shared(&frame));
    return shared;
}

/* Sends one frame all the way; returns whether it was shared. */
static bool passed_on(uint8_t content)
{
    zb_frame frame;
    bool shared = true;
    send_one(content);
    read_one(input, &frame);
    expect(zb_writer_forward(output, &frame, &shared, &error), ZB_OK, &error);
    CHECK(frame.data == NULL);
    CHECK(viewed() == shared);
    return shared;
}

static void shared_where_both_sides_want_it(void)
{
    zb_payload_sharing sharing;
    open_relay("forward", true);
    CHECK(!passed_on('a')); /* The viewer learned of the relay with this one. */
    CHECK(passed_on('b') && passed_on('c'));
    CHECK(zb_writer_frames_written(output) == 3);
    expect(zb_reader_payload_sharing(viewer, &sharing, &error), ZB_OK, &error);
    CHECK(sharing.enabled && sharing.owner_pid == (uint64_t)getpid());
    expect(zb_writer_payload_sharing(output, &sharing, &error), ZB_OK, &error);
    CHECK(sharing.enabled && sharing.owner_pid == (uint64_t)getpid());
    close_relay();
    open_relay("no-request", false);
    CHECK(!passed_on('a') && !passed_on('b'));
    expect(zb_writer_payload_sharing(output, &sharing, &error), ZB_OK, &error);
    CHECK(!sharing.enabled && sharing.share_count == 0);
    close_relay();
}

/* A frame that goes on stays as it is; before that its reader may change it. */
static void changed_before_it_goes_on(void)
{
    zb_frame frame, seen;
    zb_payload_sharing sharing;
    uint8_t *data;
    bool shared = false;
    open_relay("change", true);
    CHECK(!passed_on('a'));
    send_one('x');
    read_one(input, &frame);
    expect(zb_frame_make_mut(&frame, &data, &error), ZB_OK, &error);
    CHECK(data == frame.data && data[0] == 'x');
    memset(data, 'y', frame.size);
    memset(big, 'y', sizeof big);
    expect(zb_writer_forward_to(output, &frame, &shared, &error), ZB_OK, &error);
    CHECK(shared && frame.data != NULL && !zb_frame_is_shared(&frame));
    expect(zb_reader_payload_sharing(input, &sharing, &error), ZB_OK, &error);
    CHECK(sharing.enabled && sharing.share_count == 1);
    expect(zb_frame_make_mut(&frame, &data, &error), ZB_ERROR_INVALID_STATE, &error);
    CHECK(data == NULL);
    read_one(viewer, &seen);
    CHECK(zb_frame_is_shared(&seen) && memcmp(seen.data, big, sizeof big) == 0);
    expect(zb_frame_make_mut(&seen, &data, &error), ZB_ERROR_INVALID_STATE, &error);
    CHECK(zb_frame_mutable_data(&seen) == NULL);
    zb_frame_release(&seen);
    zb_frame_release(&frame);
    expect(zb_reader_payload_sharing(input, &sharing, &error), ZB_OK, &error);
    CHECK(sharing.share_count == 0);
    close_relay();
}

/* What others may look at is changed as a private copy, which goes on by a copy. */
static void changed_as_a_copy(void)
{
    zb_frame frame, seen;
    uint8_t *data;
    bool shared = true;
    open_relay("copy", true);
    CHECK(!passed_on('a'));
    send_one('x');
    read_one(input, &frame);
    expect(zb_frame_to_mut(&frame, &data, &error), ZB_OK, &error);
    CHECK(data == frame.data && data[0] == 'x');
    memset(data, 'y', frame.size);
    expect(zb_writer_forward_to(output, &frame, &shared, &error), ZB_OK, &error);
    CHECK(shared);
    const uint8_t *lent = frame.data;
    expect(zb_frame_to_mut(&frame, &data, &error), ZB_OK, &error);
    CHECK(data != lent && data == frame.data && frame.size == sizeof big);
    memset(data, 'z', frame.size);
    CHECK(lent[0] == 'y' && frame.data[frame.size - 1] == 'z');
    /* It is the only one who has the copy. */
    expect(zb_frame_make_mut(&frame, &data, &error), ZB_OK, &error);
    CHECK(data == frame.data);
    read_one(viewer, &seen);
    CHECK(zb_frame_is_shared(&seen) && seen.data[0] == 'y');
    expect(zb_frame_to_mut(&seen, &data, &error), ZB_OK, &error);
    CHECK(!zb_frame_is_shared(&seen) && data == seen.data && data[sizeof big - 1] == 'y');
    memset(data, 'v', seen.size);
    CHECK(lent[0] == 'y' && frame.data[0] == 'z');
    zb_frame_release(&seen);
    expect(zb_writer_forward(output, &frame, &shared, &error), ZB_OK, &error);
    CHECK(!shared && frame.data == NULL);
    memset(big, 'z', sizeof big);
    read_one(viewer, &seen);
    CHECK(seen.size == sizeof big && memcmp(seen.data, big, sizeof big) == 0);
    zb_frame_release(&seen);
    expect(zb_frame_to_mut(&seen, &data, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    CHECK(data == NULL);
    close_relay();
}

static void lent_frames(void)
{
    zb_frame frame;
    zb_frame_ref lent;
    bool shared = false;
    open_relay("lent", true);
    expect(zb_writer_forward_ref(output, input, &frame, &shared, &error), ZB_ERROR_INVALID_STATE, &error);
    CHECK(!passed_on('a'));
    send_one('l');
    expect(zb_reader_read_frame_ref(input, WAIT_MS, &lent, &error), ZB_OK, &error);
    expect(zb_writer_forward_ref(output, input, &frame, &shared, &error), ZB_OK, &error);
    CHECK(shared && frame.data == NULL);
    expect(zb_reader_is_frame_ref_shared(viewer, &shared, &error), ZB_OK, &error);
    CHECK(!shared);
    expect(zb_reader_read_frame_ref(viewer, WAIT_MS, &lent, &error), ZB_OK, &error);
    CHECK(lent.size == sizeof big && memcmp(lent.data, big, sizeof big) == 0);
    expect(zb_reader_is_frame_ref_shared(viewer, &shared, &error), ZB_OK, &error);
    CHECK(shared);
    expect(zb_reader_release_frame_ref(viewer, &error), ZB_OK, &error);
    /* A frame that cannot go on comes back. */
    send_one('m');
    expect(zb_reader_read_frame_ref(input, WAIT_MS, &lent, &error), ZB_OK, &error);
    expect(zb_writer_close(output, &error), ZB_OK, &error);
    expect(zb_writer_forward_ref(output, input, &frame, &shared, &error), ZB_ERROR_CLOSED, &error);
    CHECK(frame.data == lent.data && frame.size == sizeof big && frame.data[0] == 'm');
    expect(zb_writer_forward(output, &frame, &shared, &error), ZB_ERROR_CLOSED, &error);
    CHECK(frame.data == lent.data);
    zb_frame_release(&frame);
    close_relay();
}

/* A buffer of one's own shares from the first frame on, and goes with its writer if no reader has come. */
static void own_buffer(void)
{
    zb_config *config = sharing_config();
    zb_frame frame;
    bool shared = false, adopted = true;
    name_of("own");
    snprintf(display, sizeof display, "%s-display", name);
    expect(zb_reader_create(name, config, &input, &error), ZB_OK, &error);
    expect(zb_writer_connect(name, NULL, &source, &error), ZB_OK, &error);
    expect(zb_shared_writer_create(display, input, NULL, NULL, &output, &error), ZB_OK, &error);
    expect(zb_writer_is_adopted(output, &adopted, &error), ZB_OK, &error);
    CHECK(!adopted);
    expect(zb_reader_create(display, config, &viewer, &error), ZB_OK, &error);
    expect(zb_writer_is_adopted(output, &adopted, &error), ZB_OK, &error);
    CHECK(adopted);
    send_one('o');
    read_one(input, &frame);
    expect(zb_writer_forward(output, &frame, &shared, &error), ZB_OK, &error);
    CHECK(shared && viewed());
    expect(zb_writer_is_adopted(source, &adopted, &error), ZB_OK, &error);
    CHECK(adopted);
    close_relay();

    expect(zb_reader_create(name, config, &input, &error), ZB_OK, &error);
    expect(zb_shared_writer_create(display, input, config, NULL, &output, &error), ZB_OK, &error);
    expect(zb_writer_close(output, &error), ZB_OK, &error);
    expect(zb_writer_connect(display, NULL, &source, &error), ZB_ERROR_BUFFER_NOT_FOUND, &error);
    zb_writer_free(output);
    expect(zb_shared_writer_create(display, input, config, NULL, &output, &error), ZB_OK, &error);
    zb_writer_free(output);
    expect(zb_writer_connect(display, NULL, &source, &error), ZB_ERROR_BUFFER_NOT_FOUND, &error);
    expect(zb_reader_close(input, &error), ZB_OK, &error);
    expect(zb_shared_writer_create(display, input, NULL, NULL, &output, &error), ZB_ERROR_CLOSED, &error);
    CHECK(output == NULL);
    zb_reader_free(input);
    zb_config_free(config);
}

static uint64_t lent_now(void)
{
    zb_payload_sharing sharing;
    expect(zb_reader_payload_sharing(input, &sharing, &error), ZB_OK, &error);
    return sharing.share_count;
}

/* A frame that the viewer has not released, lent by the relay. */
static zb_frame shared_frame(uint8_t content)
{
    zb_frame frame, seen;
    bool shared = false;
    send_one(content);
    read_one(input, &frame);
    expect(zb_writer_forward(output, &frame, &shared, &error), ZB_OK, &error);
    CHECK(shared);
    read_one(viewer, &seen);
    CHECK(zb_frame_is_shared(&seen) && lent_now() == 1);
    return seen;
}

static void outlives_its_reader(void)
{
    zb_frame kept;
    open_relay("outlive", true);
    CHECK(!passed_on('a'));
    kept = shared_frame('k');
    zb_reader_free(viewer);
    viewer = NULL;
    CHECK(memcmp(kept.data, big, sizeof big) == 0 && lent_now() == 1);
    zb_frame_release(&kept);
    CHECK(lent_now() == 0);
    close_relay();
}

static void empty_in_a_forked_child(void)
{
    zb_frame kept;
    int status = 1;
    open_relay("fork", true);
    CHECK(!passed_on('a'));
    kept = shared_frame('f');
    const pid_t child = fork();
    if (child == 0) {
        size_t zeroes = 0;
        for (size_t at = 0; at < kept.size; at++)
            zeroes += kept.data[at] == 0;
        const bool empty = zeroes == kept.size;
        /* The parent's frame is not this process's to release. */
        zb_frame_release(&kept);
        _exit(empty ? 0 : 1);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
    CHECK(memcmp(kept.data, big, sizeof big) == 0 && lent_now() == 1);
    zb_frame_release(&kept);
    CHECK(lent_now() == 0);
    close_relay();
}

#define RELAYED 200

/* Frames on their way from the thread that reads to the thread that writes. */
static int between[2];

static void *reads(void *none)
{
    for (int count = 0; count < RELAYED; count++) {
        zb_error *own = NULL;
        zb_frame frame;
        CHECK(zb_reader_read_frame(input, WAIT_MS, &frame, &own) == ZB_OK);
        CHECK(write(between[1], &frame, sizeof frame) == (ssize_t)sizeof frame);
    }
    return none;
}

static void *forwards(void *shared_count)
{
    for (int count = 0; count < RELAYED; count++) {
        zb_error *own = NULL;
        zb_frame frame;
        bool shared = false;
        CHECK(read(between[0], &frame, sizeof frame) == (ssize_t)sizeof frame);
        CHECK(zb_writer_forward(output, &frame, &shared, &own) == ZB_OK);
        *(int *)shared_count += shared;
    }
    return NULL;
}

static void two_threads(void)
{
    pthread_t threads[2];
    int shared = 0, seen_shared = 0;
    open_relay("threads", true);
    CHECK(pipe(between) == 0);
    CHECK(pthread_create(&threads[0], NULL, reads, NULL) == 0);
    CHECK(pthread_create(&threads[1], NULL, forwards, &shared) == 0);
    for (int count = 0; count < RELAYED; count++) {
        send_one((uint8_t)count);
        seen_shared += viewed();
    }
    for (int thread = 0; thread < 2; thread++)
        CHECK(pthread_join(threads[thread], NULL) == 0);
    CHECK(shared == RELAYED - 1 && seen_shared == shared && lent_now() == 0);
    close(between[0]);
    close(between[1]);
    close_relay();
}

static void refused(void)
{
    zb_frame frame = {0}, copy;
    zb_payload_sharing sharing;
    uint8_t *data;
    bool shared = false;
    open_relay("refused", true);
    expect(zb_writer_forward(output, &frame, NULL, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_frame_copy_of((const uint8_t *)"abc", 3, 1, &copy, &error), ZB_OK, &error);
    expect(zb_writer_forward(output, &copy, &shared, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_frame_make_mut(&copy, &data, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    CHECK(copy.size == 3);
    zb_frame_release(&copy);
    expect(zb_writer_forward(NULL, &frame, &shared, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_writer_forward(output, NULL, &shared, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_writer_forward_to(output, NULL, &shared, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_writer_forward_ref(output, NULL, &frame, &shared, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_frame_make_mut(NULL, &data, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_reader_is_frame_ref_shared(NULL, &shared, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_reader_payload_sharing(NULL, &sharing, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_writer_payload_sharing(output, NULL, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_writer_is_adopted(output, NULL, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_shared_writer_create(display, NULL, NULL, NULL, &source, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    CHECK(!zb_frame_is_shared(NULL));
    CHECK(zb_config_set_allow_payload_sharing(NULL, true) == ZB_ERROR_INVALID_ARGUMENT);
    CHECK(zb_writer_options_set_request_payload_sharing(NULL, true) == ZB_ERROR_INVALID_ARGUMENT);
    close_relay();
}

int main(void)
{
    shared_where_both_sides_want_it();
    changed_before_it_goes_on();
    changed_as_a_copy();
    lent_frames();
    own_buffer();
    outlives_its_reader();
    empty_in_a_forked_child();
    two_threads();
    refused();
    return 0;
}
