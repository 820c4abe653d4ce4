/* The C ABI from plain C: every group of functions once, and what it promises about pointers and errors. */

#include "c_support.h"

static void frames(void)
{
    zb_error *error = NULL;
    zb_reader *reader = NULL, *second = NULL;
    zb_writer *writer = NULL;
    zb_frame frame, held;
    uint64_t sequence = 0;
    size_t size = 0;
    uint8_t *place = NULL;
    uint8_t metadata[8];
    bool there = false;

    name_of("frames");
    zb_config *config = zb_config_new();
    CHECK(zb_config_set_payload_size(config, 4096) == ZB_OK && zb_config_set_metadata_size(config, 64) == ZB_OK);
    CHECK(zb_config_set_mode(config, 0600) == ZB_OK && zb_config_set_wait_strategy(config, ZB_WAIT_BLOCK) == ZB_OK);
    CHECK(zb_config_set_wait_strategy(config, 77) == ZB_ERROR_INVALID_ARGUMENT);
    CHECK(zb_config_set_payload_size(NULL, 1) == ZB_ERROR_INVALID_ARGUMENT);

    expect(zb_writer_connect(name, NULL, &writer, &error), ZB_ERROR_BUFFER_NOT_FOUND, &error);
    CHECK(writer == NULL);
    expect(zb_reader_create(name, config, &reader, &error), ZB_OK, &error);
    expect(zb_reader_create(name, config, &second, &error), ZB_ERROR_READER_ALREADY_CONNECTED, &error);
    CHECK(second == NULL && strcmp(zb_reader_name(reader), name) == 0);
    zb_config_free(config);

    expect(zb_reader_read_frame(reader, 0, &frame, &error), ZB_TIMEOUT, &error);
    CHECK(frame.data == NULL && frame.size == 0);
    zb_frame_release(&frame);
    expect(zb_reader_wait_for_writer(reader, 0, &error), ZB_TIMEOUT, &error);

    zb_writer_options *options = zb_writer_options_new();
    CHECK(zb_writer_options_set_write_timeout(options, 0) == ZB_OK);
    CHECK(zb_writer_options_set_connect_timeout(options, WAIT_MS) == ZB_OK);
    expect(zb_writer_connect(name, options, &writer, &error), ZB_OK, &error);
    zb_writer_options_free(options);
    CHECK(zb_writer_write_timeout(writer) == 0);
    expect(zb_reader_is_writer_connected(reader, &there, &error), ZB_OK, &error);
    CHECK(there);
    expect(zb_writer_is_reader_connected(writer, &there, &error), ZB_OK, &error);
    CHECK(there);

    expect(zb_reader_get_metadata(reader, NULL, 0, &size, &error), ZB_TIMEOUT, &error);
    expect(zb_writer_set_metadata(writer, (const uint8_t *)"abcdef", 6, &error), ZB_OK, &error);
    expect(zb_writer_set_metadata(writer, (const uint8_t *)"abcdef", 6, &error), ZB_ERROR_METADATA_ALREADY_WRITTEN, &error);
    expect(zb_reader_get_metadata(reader, NULL, 0, &size, &error), ZB_OK, &error);
    CHECK(size == 6);
    memset(metadata, 'x', sizeof metadata);
    expect(zb_reader_get_metadata(reader, metadata, 3, &size, &error), ZB_OK, &error);
    CHECK(size == 6 && memcmp(metadata, "abcxxxxx", 8) == 0);

    expect(zb_writer_write_frame(writer, (const uint8_t *)"one", 3, &sequence, &error), ZB_OK, &error);
    CHECK(sequence == 1);
    expect(zb_writer_acquire_frame_buffer(writer, 100, &place, &error), ZB_OK, &error);
    expect(zb_writer_write_frame(writer, (const uint8_t *)"no", 2, NULL, &error), ZB_ERROR_INVALID_STATE, &error);
    memcpy(place, "two", 3);
    expect(zb_writer_commit_frame(writer, 101, NULL, &error), ZB_ERROR_INVALID_FRAME_SIZE, &error);
    expect(zb_writer_commit_frame(writer, 3, &sequence, &error), ZB_OK, &error);
    CHECK(sequence == 2);
    expect(zb_writer_try_acquire_frame_buffer(writer, 5, &place, &error), ZB_OK, &error);
    memcpy(place, "three", 5);
    expect(zb_writer_commit_frame(writer, ZB_WHOLE_FRAME, NULL, &error), ZB_OK, &error);
    expect(zb_writer_commit_frame(writer, ZB_WHOLE_FRAME, NULL, &error), ZB_ERROR_INVALID_STATE, &error);
    expect(zb_writer_write_frame(writer, (const uint8_t *)"", 0, NULL, &error), ZB_ERROR_INVALID_FRAME_SIZE, &error);
    expect(zb_writer_write_frame(writer, NULL, 4, NULL, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_writer_max_frame_size(writer, &size, &error), ZB_OK, &error);
    CHECK(size == 4096 - 16);

    static uint8_t big[4096];
    expect(zb_writer_write_frame(writer, big, sizeof big, NULL, &error), ZB_ERROR_FRAME_TOO_LARGE, &error);
    expect(zb_writer_acquire_frame_buffer(writer, 3000, &place, &error), ZB_OK, &error);
    expect(zb_writer_discard_frame(writer, &error), ZB_OK, &error);
    /* Filled up behind the first three, to the last byte. */
    unsigned filled = 0;
    while (zb_writer_try_write_frame(writer, big, 1000, NULL, &error) == ZB_OK)
        filled++;
    CHECK(filled >= 3);
    expect(zb_writer_write_frame(writer, big, 4000, NULL, &error), ZB_ERROR_BUFFER_FULL, &error);
    expect(zb_writer_try_write_frame(writer, big, 4000, NULL, &error), ZB_TIMEOUT, &error);
    expect(zb_writer_try_acquire_frame_buffer(writer, 4000, &place, &error), ZB_TIMEOUT, &error);
    CHECK(place == NULL);

    zb_bytes batch[2] = {{(const uint8_t *)"four", 4}, {big, sizeof big}};
    expect(zb_writer_write_frames(writer, batch, 2, &size, &error), ZB_ERROR_FRAME_TOO_LARGE, &error);
    CHECK(size == 1 && zb_writer_frames_written(writer) == 4 + filled);
    CHECK(zb_writer_bytes_written(writer) == 15 + 1000 * filled);

    expect(zb_reader_read_frame(reader, WAIT_MS, &held, &error), ZB_OK, &error);
    CHECK(held.size == 3 && held.sequence == 1 && memcmp(held.data, "one", 3) == 0);
    CHECK(zb_frame_mutable_data(&held) == NULL && !zb_frame_is_cancelled(&held) && zb_frame_time_left_ns(&held) == -1);
    zb_frame many[20];
    expect(zb_reader_read_frames(reader, many, 2, WAIT_MS, &size, &error), ZB_OK, &error);
    CHECK(size == 2 && memcmp(many[0].data, "two", 3) == 0 && memcmp(many[1].data, "three", 5) == 0);
    expect(zb_reader_read_frames(reader, many + 2, 18, WAIT_MS, &size, &error), ZB_OK, &error);
    CHECK(size == filled + 1 && many[2].size == 1000 && many[2].sequence == 4 && many[2 + filled].size == 4);
    CHECK(zb_reader_frames_read(reader) == 4 + filled && zb_reader_bytes_read(reader) == 15 + 1000 * filled);
    zb_reader_stats stats;
    memset(&stats, 0xff, sizeof stats);
    stats.size = sizeof stats;
    expect(zb_reader_get_stats(reader, &stats, &error), ZB_OK, &error);
    CHECK(stats.size == sizeof stats && stats.frames_read == 4 + filled && stats.bytes_read == 15 + 1000 * filled);
    CHECK(stats.frames_held == 4 + filled && stats.bytes_held > 1000 * filled && stats.oldest_held == 1);
    /* A program that was built with fewer figures. */
    memset(&stats, 0xff, sizeof stats);
    stats.size = offsetof(zb_reader_stats, waits);
    expect(zb_reader_get_stats(reader, &stats, &error), ZB_OK, &error);
    CHECK(stats.size == offsetof(zb_reader_stats, waits) && stats.frames_read == 4 + filled && stats.waits == UINT64_MAX);
    /* One that knows more of them. */
    struct {
        zb_writer_stats stats;
        uint64_t more;
    } larger;
    memset(&larger, 0, sizeof larger);
    larger.stats.size = sizeof larger;
    larger.more = 7;
    expect(zb_writer_get_stats(writer, &larger.stats, &error), ZB_OK, &error);
    CHECK(larger.stats.size == sizeof larger.stats && larger.stats.frames_written == 4 + filled && larger.more == 7);
    CHECK(larger.stats.bytes_written == 15 + 1000 * filled && larger.stats.full >= 1);
    stats.size = 0;
    expect(zb_reader_get_stats(reader, &stats, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_reader_get_stats(reader, NULL, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    /* In any order, moved in memory, and twice. */
    zb_frame moved = many[0];
    for (unsigned index = 2; index < 3 + filled; index++)
        zb_frame_release(&many[index]);
    zb_frame_release(&moved);
    zb_frame_release(&moved);
    zb_frame_release(&many[1]);

    zb_memory_guard *guard = NULL;
    expect(zb_writer_memory_guard(writer, &guard, &error), ZB_OK, &error);
    expect(zb_writer_acquire_frame_buffer(writer, 10, &place, &error), ZB_OK, &error);
    expect(zb_writer_close(writer, &error), ZB_OK, &error);
    memset(place, 1, 10);
    zb_memory_guard_free(guard);
    expect(zb_writer_close(writer, &error), ZB_OK, &error);
    expect(zb_writer_write_frame(writer, (const uint8_t *)"late", 4, NULL, &error), ZB_ERROR_CLOSED, &error);
    CHECK(zb_writer_frames_written(writer) == 4 + filled && strcmp(zb_writer_name(writer), name) == 0);
    expect(zb_reader_read_frame(reader, WAIT_MS, &frame, &error), ZB_END_OF_STREAM, &error);
    expect(zb_reader_try_read_frame(reader, &frame, &error), ZB_TIMEOUT, &error);
    zb_writer_free(writer);

    zb_interrupt *interrupt = zb_reader_interrupt_handle(reader);
    expect(zb_interrupt_fire(interrupt, &error), ZB_OK, &error);
    expect(zb_reader_read_frame(reader, -1, &frame, &error), ZB_ERROR_INTERRUPTED, &error);
    zb_reader_interrupt(reader);
    expect(zb_reader_wait_for_writer(reader, -1, &error), ZB_ERROR_INTERRUPTED, &error);
    expect(zb_reader_close(reader, &error), ZB_OK, &error);
    expect(zb_reader_read_frame(reader, -1, &frame, &error), ZB_ERROR_CLOSED, &error);
    zb_reader_free(reader);
    expect(zb_interrupt_fire(interrupt, &error), ZB_OK, &error);
    zb_interrupt_free(interrupt);
    /* A frame outlives its reader. */
    CHECK(memcmp(held.data, "one", 3) == 0);
    zb_frame_release(&held);
}

/* Frames that the reader lends. The ring has room for one of them. */
static void lent(void)
{
    static uint8_t big[4096 - 16];
    zb_error *error = NULL;
    zb_reader *reader = NULL;
    zb_writer *writer = NULL;
    zb_frame_ref frame;
    zb_frame owned;
    size_t size = 0;

    name_of("lent");
    zb_config *config = zb_config_new();
    CHECK(zb_config_set_payload_size(config, 4096) == ZB_OK);
    expect(zb_reader_create(name, config, &reader, &error), ZB_OK, &error);
    zb_config_free(config);
    expect(zb_writer_connect(name, NULL, &writer, &error), ZB_OK, &error);

    memset(&frame, 7, sizeof frame);
    expect(zb_reader_read_frame_ref(reader, 0, &frame, &error), ZB_TIMEOUT, &error);
    CHECK(frame.data == NULL && frame.size == 0 && frame.sequence == 0);
    expect(zb_reader_release_frame_ref(reader, &error), ZB_OK, &error);

    memset(big, 'b', sizeof big);
    expect(zb_writer_try_write_frame(writer, big, sizeof big, NULL, &error), ZB_OK, &error);
    expect(zb_reader_read_frame_ref(reader, WAIT_MS, &frame, &error), ZB_OK, &error);
    CHECK(frame.size == sizeof big && frame.sequence == 1 && memcmp(frame.data, big, sizeof big) == 0);
    /* Lent until the next call that reads; looking at the reader leaves it so. */
    CHECK(zb_reader_frames_read(reader) == 1 && zb_reader_bytes_read(reader) == sizeof big);
    expect(zb_reader_get_metadata(reader, NULL, 0, &size, &error), ZB_TIMEOUT, &error);
    expect(zb_writer_try_write_frame(writer, big, sizeof big, NULL, &error), ZB_TIMEOUT, &error);
    CHECK(memcmp(frame.data, big, sizeof big) == 0);
    expect(zb_reader_release_frame_ref(reader, &error), ZB_OK, &error);
    expect(zb_writer_try_write_frame(writer, big, sizeof big, NULL, &error), ZB_OK, &error);
    expect(zb_reader_read_frame_ref(reader, WAIT_MS, &frame, &error), ZB_OK, &error);
    CHECK(frame.sequence == 2);
    expect(zb_reader_read_frame_ref(reader, 0, &frame, &error), ZB_TIMEOUT, &error);
    CHECK(frame.data == NULL);
    expect(zb_writer_try_write_frame(writer, big, sizeof big, NULL, &error), ZB_OK, &error);
    expect(zb_reader_read_frame_ref(reader, WAIT_MS, &frame, &error), ZB_OK, &error);
    expect(zb_reader_try_read_frame(reader, &owned, &error), ZB_TIMEOUT, &error);
    expect(zb_writer_try_write_frame(writer, big, sizeof big, NULL, &error), ZB_OK, &error);
    /* An owned frame goes on when lent ones come and go. */
    expect(zb_reader_read_frame(reader, WAIT_MS, &owned, &error), ZB_OK, &error);
    expect(zb_reader_read_frame_ref(reader, 0, &frame, &error), ZB_TIMEOUT, &error);
    CHECK(memcmp(owned.data, big, sizeof big) == 0);
    expect(zb_writer_try_write_frame(writer, big, sizeof big, NULL, &error), ZB_TIMEOUT, &error);
    zb_frame_release(&owned);

    expect(zb_writer_try_write_frame(writer, big, sizeof big, NULL, &error), ZB_OK, &error);
    expect(zb_writer_close(writer, &error), ZB_OK, &error);
    expect(zb_reader_read_frame_ref(reader, WAIT_MS, &frame, &error), ZB_OK, &error);
    expect(zb_reader_read_frame_ref(reader, WAIT_MS, &frame, &error), ZB_END_OF_STREAM, &error);
    CHECK(frame.data == NULL);
    zb_writer_free(writer);

    expect(zb_writer_connect(name, NULL, &writer, &error), ZB_OK, &error);
    expect(zb_writer_write_frame(writer, big, sizeof big, NULL, &error), ZB_OK, &error);
    expect(zb_reader_read_frame_ref(reader, WAIT_MS, &frame, &error), ZB_OK, &error);
    expect(zb_reader_close(reader, &error), ZB_OK, &error);
    /* A late look at it still reads mapped memory. */
    CHECK(frame.data[0] == 'b' && frame.data[frame.size - 1] == 'b');
    expect(zb_reader_release_frame_ref(reader, &error), ZB_ERROR_CLOSED, &error);
    expect(zb_reader_read_frame_ref(reader, 0, &frame, &error), ZB_ERROR_CLOSED, &error);
    CHECK(frame.data == NULL);
    zb_reader_free(reader);
    zb_writer_free(writer);
}

/* Time-outs of one call, and names that say how long they are. */
static void newest(void)
{
    zb_error *error = NULL;
    zb_reader *reader = NULL;
    zb_writer *writer = NULL;
    zb_frame frame;
    zb_frame_ref lent_frame;

    name_of("newest");
    expect(zb_reader_create(name, NULL, &reader, &error), ZB_OK, &error);
    expect(zb_writer_connect(name, NULL, &writer, &error), ZB_OK, &error);
    expect(zb_reader_read_latest_frame(reader, 0, &frame, &error), ZB_TIMEOUT, &error);
    CHECK(frame.data == NULL);
    for (uint8_t byte = 1; byte <= 10; byte++)
        expect(zb_writer_write_frame(writer, &byte, 1, NULL, &error), ZB_OK, &error);
    expect(zb_reader_read_latest_frame(reader, WAIT_MS, &frame, &error), ZB_OK, &error);
    CHECK(frame.size == 1 && *frame.data == 10 && frame.sequence == 10);
    CHECK(zb_reader_frames_read(reader) == 1 && zb_reader_frames_skipped(reader) == 9);
    for (uint8_t byte = 11; byte <= 15; byte++)
        expect(zb_writer_write_frame(writer, &byte, 1, NULL, &error), ZB_OK, &error);
    expect(zb_reader_read_latest_frame_ref(reader, WAIT_MS, &lent_frame, &error), ZB_OK, &error);
    CHECK(lent_frame.sequence == 15 && *lent_frame.data == 15 && *frame.data == 10);
    expect(zb_reader_release_frame_ref_of(reader, 15, &error), ZB_OK, &error);
    zb_frame_release(&frame);
    zb_reader_stats stats;
    stats.size = sizeof stats;
    expect(zb_reader_get_stats(reader, &stats, &error), ZB_OK, &error);
    CHECK(stats.frames_held == 0 && stats.frames_read == 2 && zb_reader_frames_skipped(reader) == 13);

    uint8_t last = 16;
    expect(zb_writer_write_frame(writer, &last, 1, NULL, &error), ZB_OK, &error);
    expect(zb_writer_close(writer, &error), ZB_OK, &error);
    expect(zb_reader_read_latest_frame_ref(reader, WAIT_MS, &lent_frame, &error), ZB_OK, &error);
    CHECK(*lent_frame.data == 16);
    expect(zb_reader_read_latest_frame(reader, WAIT_MS, &frame, &error), ZB_END_OF_STREAM, &error);
    expect(zb_reader_read_latest_frame_ref(reader, 0, &lent_frame, &error), ZB_TIMEOUT, &error);
    CHECK(lent_frame.data == NULL && zb_reader_frames_skipped(NULL) == 0);
    expect(zb_reader_read_latest_frame(NULL, 0, &frame, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_reader_read_latest_frame_ref(reader, 0, NULL, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    zb_writer_free(writer);
    expect(zb_reader_close(reader, &error), ZB_OK, &error);
    expect(zb_reader_read_latest_frame(reader, 0, &frame, &error), ZB_ERROR_CLOSED, &error);
    zb_reader_free(reader);
}

static void variants(void)
{
    static uint8_t big[4096 - 16];
    zb_error *error = NULL;
    zb_reader *reader = NULL;
    zb_writer *writer = NULL;
    zb_kept_buffer *kept = NULL;
    zb_client *client = NULL;
    zb_server *server = NULL;
    zb_snapshot *snapshot = NULL;
    uint8_t *place = NULL;
    uint64_t sequence = 0;

    name_of("variants");
    size_t length = strlen(name);
    char longer[100];
    snprintf(longer, sizeof longer, "%s%cand-more", name, 0);
    zb_config *config = zb_config_new();
    CHECK(zb_config_set_payload_size(config, 4096) == ZB_OK);
    /* A zero byte is refused, and not taken for the end. */
    expect(zb_reader_create_n(longer, length + 5, config, &reader, &error), ZB_ERROR_INVALID_NAME, &error);
    expect(zb_writer_connect_n(longer, length + 5, NULL, &writer, &error), ZB_ERROR_INVALID_NAME, &error);
    expect(zb_kept_buffer_create_n(longer, length + 5, config, &kept, &error), ZB_ERROR_INVALID_NAME, &error);
    expect(zb_client_connect_n(longer, length + 5, NULL, &client, &error), ZB_ERROR_INVALID_NAME, &error);
    expect(zb_server_create_immutable_n(longer, length + 5, config, &server, &error), ZB_ERROR_INVALID_NAME, &error);
    expect(zb_server_create_mutable_n(longer, length + 5, config, &server, &error), ZB_ERROR_INVALID_NAME, &error);
    expect(zb_inspect_snapshot_n(longer, length + 5, &snapshot, &error), ZB_ERROR_INVALID_NAME, &error);
    expect(zb_reader_create_n(NULL, 3, config, &reader, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    /* What lies behind the length is not looked at. */
    snprintf(longer, sizeof longer, "%s-and-more", name);
    expect(zb_reader_create_n(longer, length, config, &reader, &error), ZB_OK, &error);
    CHECK(strcmp(zb_reader_name(reader), name) == 0);
    zb_config_free(config);
    expect(zb_writer_connect_n(longer, length, NULL, &writer, &error), ZB_OK, &error);
    expect(zb_inspect_snapshot_n(longer, length, &snapshot, &error), ZB_OK, &error);
    zb_snapshot_free(snapshot);

    expect(zb_writer_write_frame_within(writer, big, sizeof big, 0, &sequence, &error), ZB_OK, &error);
    CHECK(sequence == 1);
    expect(zb_writer_write_frame_within(writer, big, sizeof big, 0, NULL, &error), ZB_ERROR_BUFFER_FULL, &error);
    expect(zb_writer_acquire_frame_buffer_within(writer, 4000, 1, &place, &error), ZB_ERROR_BUFFER_FULL, &error);
    CHECK(place == NULL && zb_writer_write_timeout(writer) == 5000);
    expect(zb_reader_close(reader, &error), ZB_OK, &error);
    zb_reader_free(reader);
    zb_writer_free(writer);
}

static void nulls(void)
{
    zb_error *error = NULL;
    zb_frame frame;
    zb_frame_ref ref;
    expect(zb_reader_read_frame_ref(NULL, 0, &ref, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_reader_read_frame_ref(NULL, 0, NULL, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_reader_release_frame_ref(NULL, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_reader_create(NULL, NULL, NULL, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_reader_read_frame(NULL, 0, &frame, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_reader_read_frame(NULL, 0, NULL, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_writer_write_frame(NULL, NULL, 0, NULL, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_client_call(NULL, NULL, 0, 0, &frame, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_server_start(NULL, NULL, 0, NULL, NULL, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    expect(zb_inspect_snapshot(NULL, NULL, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    CHECK(zb_reader_create("no/slash", NULL, NULL, NULL) == ZB_ERROR_INVALID_ARGUMENT);
    zb_reader *reader = NULL;
    expect(zb_reader_create("no/slash", NULL, &reader, &error), ZB_ERROR_INVALID_NAME, &error);
    expect(zb_reader_create("\xff\xfe", NULL, &reader, &error), ZB_ERROR_INVALID_NAME, &error);
    CHECK(zb_error_code(NULL) == ZB_OK && zb_error_message(NULL)[0] == '\0' && zb_error_sequence(NULL) == 0);
    CHECK(!zb_error_sequence_gap(NULL, NULL, NULL));
    CHECK(zb_reader_frames_read(NULL) == 0 && !zb_client_is_server_connected(NULL) && !zb_server_is_running(NULL));
    zb_reader_interrupt(NULL);
    zb_error_free(NULL);
    zb_reader_free(NULL);
    zb_writer_free(NULL);
    zb_client_free(NULL);
    zb_server_free(NULL);
    zb_config_free(NULL);
    zb_frame_release(NULL);
    zb_snapshot_free(NULL);
    zb_names_free(NULL);
    CHECK(strcmp(zb_status_name(ZB_ERROR_BUFFER_FULL), "BUFFER_FULL") == 0);
    CHECK(strcmp(zb_status_name(12345), "UNKNOWN") == 0);
    CHECK(zb_abi_version() >> 16 == ZB_ABI_VERSION_MAJOR && (zb_abi_version() & 0xffff) == ZB_ABI_VERSION_MINOR);
    CHECK(zb_version()[0] == '2');
}

static void tools(void)
{
    zb_error *error = NULL;
    zb_kept_buffer *kept = NULL;
    zb_snapshot *snapshot = NULL;
    zb_names *names = NULL;
    bool adopted = true;
    bool found = false;

    name_of("tools");
    expect(zb_inspect_snapshot(name, &snapshot, &error), ZB_ERROR_BUFFER_NOT_FOUND, &error);
    expect(zb_kept_buffer_create(name, NULL, &kept, &error), ZB_OK, &error);
    expect(zb_inspect_snapshot(name, &snapshot, &error), ZB_OK, &error);
    CHECK(strcmp(snapshot->name, name) == 0 && snapshot->payload_size == 256u << 20 && snapshot->metadata_size == 4096);
    CHECK(snapshot->version[0] == 1 && snapshot->kept && snapshot->mode == 0600 && snapshot->health == ZB_HEALTHY);
    CHECK(snapshot->reader.pid == (uint64_t)getpid() && snapshot->writer.presence == ZB_PEER_ABSENT);
    CHECK(snapshot->defect_count == 0 && snapshot->ring == ZB_RING_UNDECIDED && snapshot->age_ns >= 0);
    zb_snapshot_free(snapshot);
    expect(zb_inspect_list(&names, &error), ZB_OK, &error);
    for (size_t index = 0; index < names->count; index++)
        found = found || strcmp(names->names[index], name) == 0;
    CHECK(found);
    zb_names_free(names);
    expect(zb_kept_buffer_is_adopted(kept, &adopted, &error), ZB_OK, &error);
    CHECK(!adopted);
    expect(zb_kept_buffer_close(kept, &adopted, &error), ZB_OK, &error);
    CHECK(!adopted);
    expect(zb_kept_buffer_is_adopted(kept, &adopted, &error), ZB_ERROR_CLOSED, &error);
    zb_kept_buffer_free(kept);
}

/* Counts how often user data was destroyed. */
static void destroy(void *user_data)
{
    ++*(int *)user_data;
}

static void reverse(void *user_data, const zb_frame *request, zb_responder *responder)
{
    (void)user_data;
    if (request->size == 4 && memcmp(request->data, "fail", 4) == 0) {
        zb_responder_fail(responder, "asked to fail");
        return;
    }
    uint8_t *answer = malloc(request->size);
    CHECK(answer != NULL);
    for (size_t index = 0; index < request->size; index++)
        answer[index] = request->data[request->size - 1 - index];
    CHECK(zb_responder_reply(responder, answer, request->size, NULL) == ZB_OK);
    CHECK(zb_responder_reply(responder, answer, request->size, NULL) == ZB_ERROR_INVALID_STATE);
    free(answer);
}

static void invert(void *user_data, zb_frame *request, zb_responder *responder)
{
    (void)user_data;
    uint8_t *bytes = zb_frame_mutable_data(request);
    CHECK(bytes != NULL && zb_responder_reply(responder, bytes, 1, NULL) == ZB_ERROR_INVALID_STATE);
    CHECK(zb_frame_time_left_ns(request) > 0);
    for (size_t index = 0; index < request->size; index++)
        bytes[index] = (uint8_t)~bytes[index];
}

static void duplex(void)
{
    zb_error *error = NULL;
    zb_server *server = NULL;
    zb_client *client = NULL;
    zb_frame response;
    uint64_t first = 0, second = 0;
    uint8_t *place = NULL;
    int destroyed = 0;
    bool under_way = true;

    name_of("duplex");
    expect(zb_client_connect(name, NULL, &client, &error), ZB_ERROR_BUFFER_NOT_FOUND, &error);
    expect(zb_server_create_immutable(name, NULL, &server, &error), ZB_OK, &error);
    expect(zb_server_start_mutable(server, invert, ZB_SINGLE_THREAD, &destroyed, destroy, &error), ZB_ERROR_INVALID_STATE,
           &error);
    expect(zb_server_start(server, NULL, ZB_SINGLE_THREAD, &destroyed, destroy, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    CHECK(destroyed == 2);
    expect(zb_server_start(server, reverse, ZB_SINGLE_THREAD, &destroyed, destroy, &error), ZB_OK, &error);
    CHECK(zb_server_is_running(server) && strcmp(zb_server_channel(server), name) == 0);

    zb_client_options *options = zb_client_options_new();
    CHECK(zb_client_options_set_connect_timeout(options, WAIT_MS) == ZB_OK);
    CHECK(zb_client_options_set_request_timeout(options, WAIT_MS) == ZB_OK);
    CHECK(zb_client_options_set_response_config(options, NULL) == ZB_OK);
    expect(zb_client_connect(name, options, &client, &error), ZB_OK, &error);
    zb_client_options_free(options);
    CHECK(zb_client_is_server_connected(client) && strcmp(zb_client_channel(client), name) == 0);

    expect(zb_client_call(client, (const uint8_t *)"abc", 3, WAIT_MS, &response, &error), ZB_OK, &error);
    CHECK(response.size == 3 && memcmp(response.data, "cba", 3) == 0);
    zb_frame_release(&response);
    expect(zb_client_send_request(client, (const uint8_t *)"one", 3, &first, &error), ZB_OK, &error);
    expect(zb_client_receive_response(client, WAIT_MS, &response, &error), ZB_OK, &error);
    CHECK(response.sequence == first && memcmp(response.data, "eno", 3) == 0);
    zb_frame_release(&response);
    expect(zb_client_commit_request(client, NULL, &error), ZB_ERROR_INVALID_STATE, &error);
    expect(zb_client_acquire_request_buffer(client, 2, &first, &place, &error), ZB_OK, &error);
    expect(zb_client_acquire_request_buffer(client, 2, NULL, &place, &error), ZB_ERROR_INVALID_STATE, &error);
    expect(zb_client_discard_request(client, &error), ZB_OK, &error);
    expect(zb_client_acquire_request_buffer(client, 2, &first, &place, &error), ZB_OK, &error);
    memcpy(place, "xy", 2);
    expect(zb_client_commit_request(client, &second, &error), ZB_OK, &error);
    CHECK(first == second);
    expect(zb_client_receive_response_to(client, second, WAIT_MS, &response, &error), ZB_OK, &error);
    CHECK(memcmp(response.data, "yx", 2) == 0);
    zb_frame_release(&response);
    expect(zb_client_cancel_request(client, second, &under_way, &error), ZB_OK, &error);
    CHECK(!under_way);
    expect(zb_client_send_request_within(client, (const uint8_t *)"fail", 4, WAIT_MS, &first, &error), ZB_OK, &error);
    zb_status status = zb_client_receive_response(client, WAIT_MS, &response, &error);
    CHECK(zb_error_sequence(error) == first && strstr(zb_error_message(error), "asked to fail") != NULL);
    expect(status, ZB_ERROR_REQUEST_FAILED, &error);
    expect(zb_client_receive_response(client, 0, &response, &error), ZB_TIMEOUT, &error);
    expect(zb_client_close(client, &error), ZB_OK, &error);
    expect(zb_client_call(client, (const uint8_t *)"abc", 3, 0, &response, &error), ZB_ERROR_CLOSED, &error);
    zb_client_free(client);
    expect(zb_server_stop(server, &error), ZB_OK, &error);
    CHECK(destroyed == 3 && !zb_server_is_running(server));
    zb_server_free(server);

    expect(zb_server_create_mutable(name, NULL, &server, &error), ZB_OK, &error);
    expect(zb_server_start_mutable(server, invert, ZB_THREAD_POOL, NULL, NULL, &error), ZB_OK, &error);
    expect(zb_client_connect(name, NULL, &client, &error), ZB_OK, &error);
    expect(zb_client_acquire_request_buffer(client, 1, NULL, &place, &error), ZB_OK, &error);
    *place = 0x0f;
    expect(zb_client_call_acquired(client, WAIT_MS, &response, &error), ZB_OK, &error);
    CHECK(response.size == 1 && response.data[0] == 0xf0);
    zb_frame_release(&response);
    zb_client_free(client);
    zb_server_free(server);
}

static int logged;

static void log_line(void *user_data, zb_log_level level, const char *target, const char *message)
{
    (void)user_data;
    CHECK(level >= ZB_LOG_ERROR && level <= ZB_LOG_DEBUG && strncmp(target, "zerobuffer", 10) == 0 && message[0] != '\0');
    ++logged;
}

static void logging(void)
{
    zb_error *error = NULL;
    int destroyed = 0;
    expect(zb_set_logger(log_line, 99, &destroyed, destroy, &error), ZB_ERROR_INVALID_ARGUMENT, &error);
    CHECK(destroyed == 1);
    expect(zb_set_logger(log_line, ZB_LOG_DEBUG, &destroyed, destroy, &error), ZB_OK, &error);
    duplex();
    CHECK(logged > 0 && destroyed == 1);
    expect(zb_set_logger(NULL, ZB_LOG_OFF, NULL, NULL, &error), ZB_OK, &error);
    CHECK(destroyed == 2);
}

int main(void)
{
    variants();
    nulls();
    frames();
    lent();
    newest();
    tools();
    duplex();
    logging();
    puts("the C ABI keeps its promises");
    return 0;
}
