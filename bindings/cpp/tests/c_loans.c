/* Frames that a reader lends: kept, given back from other threads, and what leaves them alone. */

#include "c_support.h"

#include <pthread.h>

/* A buffer with room for one frame of FRAME bytes at a time. */
#define FRAME (4096 - 16)

static uint8_t big[FRAME];
static zb_error *error;
static zb_reader *reader;
static zb_writer *writer;
static zb_frame_ref lent;

static void open_sized(const char *what, size_t payload)
{
    name_of(what);
    zb_config *config = zb_config_new();
    CHECK(zb_config_set_payload_size(config, payload) == ZB_OK);
    expect(zb_reader_create(name, config, &reader, &error), ZB_OK, &error);
    zb_config_free(config);
    expect(zb_writer_connect(name, NULL, &writer, &error), ZB_OK, &error);
}

static void open_buffer(const char *what)
{
    open_sized(what, 4096);
}

static void lend(uint8_t content)
{
    memset(big, content, sizeof big);
    expect(zb_writer_try_write_frame(writer, big, sizeof big, NULL, &error), ZB_OK, &error);
    expect(zb_reader_read_frame_ref(reader, WAIT_MS, &lent, &error), ZB_OK, &error);
    CHECK(lent.size == sizeof big && memcmp(lent.data, big, sizeof big) == 0);
}

static bool has_room(void)
{
    uint8_t *place;
    zb_status status = zb_writer_try_acquire_frame_buffer(writer, sizeof big, &place, &error);
    if (status == ZB_OK)
        expect(zb_writer_discard_frame(writer, &error), ZB_OK, &error);
    else
        expect(status, ZB_TIMEOUT, &error);
    return status == ZB_OK;
}

static void close_buffer(void)
{
    zb_writer_free(writer);
    zb_reader_free(reader);
}

/* A loan becomes a frame that outlives the next read, and its reader. */
static void kept(void)
{
    zb_frame frame;
    open_buffer("kept");
    expect(zb_reader_keep_frame_ref(reader, &frame, &error), ZB_ERROR_INVALID_STATE, &error);
    CHECK(frame.data == NULL);
    lend('k');
    expect(zb_reader_keep_frame_ref(reader, &frame, &error), ZB_OK, &error);
    CHECK(frame.data == lent.data && frame.size == lent.size && frame.sequence == lent.sequence);
    expect(zb_reader_read_frame_ref(reader, 0, &lent, &error), ZB_TIMEOUT, &error);
    CHECK(!has_room() && memcmp(frame.data, big, sizeof big) == 0);
    close_buffer();
    CHECK(memcmp(frame.data, big, sizeof big) == 0);
    zb_frame_release(&frame);
}

static void *release_it(void *sequence)
{
    zb_error *failure = NULL;
    expect(zb_reader_release_frame_ref_of(reader, *(uint64_t *)sequence, &failure), ZB_OK, &failure);
    return NULL;
}

/* Runs a function on another thread, to its end. */
static void elsewhere(void *(*function)(void *), void *argument)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, function, argument) == 0 && pthread_join(thread, NULL) == 0);
}

/* A loan is given back by its number, on any thread; a late call does nothing. */
static void released_by_number(void)
{
    open_buffer("number");
    lend('1');
    uint64_t first = lent.sequence, other = 77;
    elsewhere(release_it, &other);
    CHECK(!has_room());
    elsewhere(release_it, &first);
    CHECK(has_room());
    lend('2');
    CHECK(lent.sequence == first + 1);
    elsewhere(release_it, &first);
    CHECK(!has_room() && memcmp(lent.data, big, sizeof big) == 0);
    expect(zb_reader_release_frame_ref_of(reader, lent.sequence, &error), ZB_OK, &error);
    CHECK(has_room());
    expect(zb_reader_release_frame_ref_of(NULL, 1, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    close_buffer();
}

/* Frames that are known to be there are read without any wait; a release that is not due may be left to the next read. */
static void taken(void)
{
    bool due = false;
    /* Small frames go back together, a 64th of the ring at a time. */
    open_sized("taken", 1 << 16);
    CHECK(!zb_reader_take_frame_ref(reader, &lent, &due));
    for (uint8_t number = 1; number <= 6; number++)
        expect(zb_writer_write_frame(writer, &number, 1, NULL, &error), ZB_OK, &error);
    /* The first read learns of the others. */
    expect(zb_reader_read_frame_ref(reader, WAIT_MS, &lent, &error), ZB_OK, &error);
    uint64_t first = lent.sequence;
    CHECK(zb_reader_take_frame_ref(reader, &lent, &due));
    CHECK(lent.data[0] == 2 && lent.size == 1 && lent.sequence == first + 1 && !due);
    /* A late release ends no other loan; one that is not due may be made or not. */
    expect(zb_reader_release_frame_ref_of(reader, first, &error), ZB_OK, &error);
    expect(zb_reader_release_frame_ref(reader, &error), ZB_OK, &error);
    CHECK(zb_reader_take_frame_ref(reader, &lent, NULL) && lent.data[0] == 3);
    CHECK(zb_reader_frames_read(reader) == 3 && zb_reader_bytes_read(reader) == 3);
    while (!due)
        CHECK(zb_reader_take_frame_ref(reader, &lent, &due));
    /* The last frame that is there is due, and the end of its loan no matter of a few stores: the reader's other calls see to it. */
    CHECK(lent.data[0] == 6 && !zb_reader_take_frame_ref(reader, &lent, &due) && lent.data[0] == 6);
    expect(zb_reader_release_frame_ref(reader, &error), ZB_OK, &error);
    CHECK(!zb_reader_take_frame_ref(NULL, &lent, &due) && !zb_reader_take_frame_ref(reader, NULL, &due));
    expect(zb_reader_close(reader, &error), ZB_OK, &error);
    CHECK(!zb_reader_take_frame_ref(reader, &lent, &due));
    close_buffer();
}

static zb_status outcome;

static void *read_one(void *unused)
{
    zb_frame_ref frame;
    (void)unused;
    outcome = zb_reader_read_frame_ref(reader, WAIT_MS, &frame, NULL);
    return NULL;
}

/* Returns when another thread is in a call of the reader. */
static void await_reading(void)
{
    while (zb_reader_get_metadata(reader, NULL, 0, &(size_t){0}, NULL) != ZB_ERROR_INVALID_STATE)
        usleep(100);
}

/* Whether the peer is there can be asked on any thread, and changes nothing. */
static void questions(void)
{
    pthread_t thread;
    bool there = false;
    open_buffer("questions");
    lend('q');
    expect(zb_reader_is_writer_connected(reader, &there, &error), ZB_OK, &error);
    CHECK(there && !has_room() && memcmp(lent.data, big, sizeof big) == 0);
    expect(zb_reader_release_frame_ref(reader, &error), ZB_OK, &error);

    CHECK(pthread_create(&thread, NULL, read_one, NULL) == 0);
    await_reading();
    expect(zb_reader_is_writer_connected(reader, &there, &error), ZB_OK, &error);
    CHECK(there);
    /* A late release does not disturb the call either. */
    expect(zb_reader_release_frame_ref_of(reader, 1, &error), ZB_OK, &error);
    expect(zb_writer_write_frame(writer, big, 5, NULL, &error), ZB_OK, &error);
    CHECK(pthread_join(thread, NULL) == 0 && outcome == ZB_OK);

    /* A frame that is unread counts, whether its writer lives or not. */
    expect(zb_reader_release_frame_ref(reader, &error), ZB_OK, &error);
    expect(zb_writer_write_frame(writer, big, 5, NULL, &error), ZB_OK, &error);
    expect(zb_writer_close(writer, &error), ZB_OK, &error);
    expect(zb_writer_is_reader_connected(writer, &there, &error), ZB_ERROR_CLOSED, &error);
    expect(zb_reader_is_writer_connected(reader, &there, &error), ZB_OK, &error);
    CHECK(there);
    expect(zb_reader_read_frame_ref(reader, WAIT_MS, &lent, &error), ZB_OK, &error);
    expect(zb_reader_is_writer_connected(reader, &there, &error), ZB_OK, &error);
    CHECK(!there && lent.data[0] == 'q');
    expect(zb_reader_close(reader, &error), ZB_OK, &error);
    expect(zb_reader_is_writer_connected(reader, &there, &error), ZB_ERROR_CLOSED, &error);
    close_buffer();
}

/* Whether a buffer is mapped: there is one at a time, and its file need not show its name there. */
static bool is_mapped(void)
{
    char line[512];
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps) != NULL)
        found = found || strstr(line, " /dev/shm/") != NULL;
    fclose(maps);
    return found;
}

/* A loan outlives the close of its reader; without one, closed means unmapped, whatever is still to be freed. */
static void closed(void)
{
    zb_frame frame;
    for (int way = 0; way < 4; way++) {
        open_buffer("closed");
        zb_interrupt *interrupts[2] = {zb_reader_interrupt_handle(reader), zb_writer_interrupt_handle(writer)};
        lend((uint8_t)('a' + way));
        expect(zb_reader_close(reader, &error), ZB_OK, &error);
        expect(zb_reader_close(reader, &error), ZB_OK, &error);
        expect(zb_writer_close(writer, &error), ZB_OK, &error);
        CHECK(is_mapped() && memcmp(lent.data, big, sizeof big) == 0);
        if (way == 0) {
            expect(zb_reader_release_frame_ref_of(reader, lent.sequence + 1, &error), ZB_OK, &error);
            CHECK(memcmp(lent.data, big, sizeof big) == 0);
            elsewhere(release_it, &lent.sequence);
        } else if (way == 1) {
            expect(zb_reader_release_frame_ref(reader, &error), ZB_ERROR_CLOSED, &error);
        } else if (way == 2) {
            expect(zb_reader_keep_frame_ref(reader, &frame, &error), ZB_OK, &error);
            expect(zb_reader_keep_frame_ref(reader, &(zb_frame){0}, &error), ZB_ERROR_CLOSED, &error);
            CHECK(memcmp(frame.data, big, sizeof big) == 0);
            zb_frame_release(&frame);
        }
        CHECK(is_mapped() == (way == 3));
        expect(zb_interrupt_fire(interrupts[0], &error), ZB_OK, &error);
        zb_interrupt *late = zb_reader_interrupt_handle(reader);
        expect(zb_interrupt_fire(late, &error), ZB_OK, &error);
        zb_interrupt_free(late);
        close_buffer();
        CHECK(!is_mapped());
        zb_interrupt_free(interrupts[0]);
        zb_interrupt_free(interrupts[1]);
    }
}

int main(void)
{
    kept();
    released_by_number();
    taken();
    questions();
    closed();
    return 0;
}
