/**
 * @file
 * The C ABI of ZeroBuffer: frames between two processes through shared memory. docs/C.md is the page for users.
 *
 * A function that can fail returns a zb_status: ZB_OK, a positive number when it has nothing to return (ZB_TIMEOUT,
 * ZB_END_OF_STREAM), or a negative number when it failed. Its last parameter `error` may be NULL; otherwise it is set to NULL, or to an
 * error object with the details, which the caller frees with zb_error_free.
 *
 * Rules:
 * - A handle comes from a function of this library, and is not used after the function that frees it was called.
 * - A pointer may be NULL where its documentation says so; elsewhere NULL causes ZB_ERROR_INVALID_ARGUMENT.
 * - Names are UTF-8 strings that end with a zero byte. The caller keeps the bytes passed in unchanged during a call.
 * - Time-outs are milliseconds: 0 polls once, a negative one waits without limit.
 * - Callbacks do not unwind: no C++ exception and no longjmp may leave them. They run on threads of the library.
 */

#ifndef ZEROBUFFER_C_H
#define ZEROBUFFER_C_H

/* Made by cbindgen from crates/zerobuffer-ffi; do not edit. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** A size to commit: all bytes that were acquired. */
#define ZB_WHOLE_FRAME SIZE_MAX

/**
 * The NUMA node that the thread runs on which creates the reader.
 */
#define ZB_NUMA_NODE_OF_READER -1

/**
 * Major version of the ABI, which is also the number in the SONAME: raised when an existing item is removed
 * or changed.
 */
#define ZB_ABI_VERSION_MAJOR 1

/**
 * Minor version of the ABI: raised when an item is added.
 */
#define ZB_ABI_VERSION_MINOR 5

/**
 * The client of a duplex channel. Any thread may call any function at any time, until the client is freed.
 *
 * Each request has exactly one outcome. `zb_client_call` sends a request and waits for its outcome.
 * `zb_client_receive_response` returns, in the order of arrival, the outcomes of requests that were sent by
 * other functions.
 */
typedef struct zb_client zb_client;

/**
 * How a duplex client connects and waits, and the response buffer that it creates.
 */
typedef struct zb_client_options zb_client_options;

/**
 * Sizes and rights of a buffer, decided by the reader that creates it.
 */
typedef struct zb_config zb_config;

/**
 * A deferred answer to a request. Any thread may call any function, until it is freed.
 */
typedef struct zb_deferred zb_deferred;

/**
 * An error: its number, and a message that names the buffer, the cause and the way out. Free it with
 * `zb_error_free`.
 */
typedef struct zb_error zb_error;

/**
 * Ends the blocked calls of a reader or writer from any thread. It may outlive the reader or writer.
 */
typedef struct zb_interrupt zb_interrupt;

/**
 * A buffer kept for a reader that comes later, which takes it over with the frames in it.
 *
 * Used by one thread at a time: a second one gets `ZB_ERROR_INVALID_STATE`.
 */
typedef struct zb_kept_buffer zb_kept_buffer;

/**
 * A logger that gets the library's messages, from `zb_logger_add` to `zb_logger_remove`.
 */
typedef struct zb_logger zb_logger;

/**
 * Keeps the memory of an acquired frame mapped, for languages whose views may outlive the writer.
 */
typedef struct zb_memory_guard zb_memory_guard;

/**
 * The reading side of a buffer: creates it, owns it, removes it.
 *
 * Used by one thread at a time: a second one gets `ZB_ERROR_INVALID_STATE`. `zb_reader_interrupt`,
 * `zb_reader_clear_interrupt`, `zb_reader_close`, `zb_reader_is_writer_connected`, `zb_reader_release_frame_ref_of`,
 * `zb_reader_name` and the counters may be used from any thread at any time.
 */
typedef struct zb_reader zb_reader;

/**
 * Takes a handler's answer, for the time of its call.
 */
typedef struct zb_responder zb_responder;

/**
 * The server of a duplex channel, of one of two kinds. Any thread may call any function at any time, until
 * it is freed. It outlives its clients: when a client closes or dies, the next one can connect.
 */
typedef struct zb_server zb_server;

/**
 * Passes the frames of one reader on to any number of outputs.
 *
 * A *block* output gets every frame: while it is full, the tee waits, and so does the source in the end. It is lent the source's
 * bytes where its writer requests sharing and both readers allow it. A *drop* output has at most so many frames that its reader has
 * not given back; what comes then is dropped, and counted. The tee never waits for it. Two and more such outputs are lent one copy,
 * where they request and allow sharing. Block outputs are served first. An output whose reader dies or closes ends: it gets nothing
 * more, and the others go on.
 *
 * Used by one thread at a time: a second one gets `ZB_ERROR_INVALID_STATE`. `zb_tee_interrupt`, `zb_tee_close` and `zb_tee_name` may be
 * used from any thread at any time.
 */
typedef struct zb_tee zb_tee;

/**
 * The writing side of a buffer.
 *
 * Used by one thread at a time: a second one gets `ZB_ERROR_INVALID_STATE`. `zb_writer_interrupt`,
 * `zb_writer_clear_interrupt`, `zb_writer_close`, `zb_writer_is_reader_connected`, `zb_writer_name` and the counters may be used
 * from any thread at any time.
 */
typedef struct zb_writer zb_writer;

/**
 * How a writer connects and waits.
 */
typedef struct zb_writer_options zb_writer_options;

/**
 * The result of a function: `ZB_OK`, a positive number when there is nothing to return, a negative number
 * when it failed.
 */
typedef int32_t zb_status;

/**
 * A frame: bytes in shared memory, valid until `zb_frame_release`. It is empty (`data` is NULL) when there
 * was nothing to read.
 *
 * The caller provides the struct and the library fills it, without an allocation. It may be moved in memory
 * byte by byte, but only one copy may be used. Several frames may be held at once, and released in any order
 * and on any thread. They stay valid when their reader or client is closed or freed.
 *
 * A function that fills a frame overwrites the struct without releasing an earlier frame.
 */
typedef struct zb_frame {
    /**
     * The first byte; NULL in an empty frame.
     */
    const uint8_t *data;
    /**
     * Bytes of data.
     */
    size_t size;
    /**
     * The number that the writer gave the frame: 1, 2, 3 ...; in a duplex channel, that of the request.
     */
    uint64_t sequence;
    /**
     * Private to the library.
     */
    uint64_t state;
    /**
     * Private to the library.
     */
    uint64_t owner[12];
} zb_frame;

/**
 * Called once with the outcome of a call: `ZB_OK` and a response, or an error's number and the error. Must not wait, and should only pass
 * the outcome on: wake a thread, or post to an event loop. It may call any function of this library, except `zb_client_free` for
 * this client.
 *
 * The response is the callback's: it releases it (`zb_frame_release`), or copies the struct to another place to release it later. The
 * error, which is NULL for `ZB_OK`, is the library's, and valid until the callback returns.
 */
typedef void (*zb_call_done)(void *user_data,
                             zb_status status,
                             struct zb_frame *response,
                             const struct zb_error *error);

/**
 * Destroys user data. Called exactly once, on any thread.
 */
typedef void (*zb_destroy)(void *user_data);

/**
 * How a reader waits for frames and a writer for space.
 */
typedef int32_t zb_wait_strategy;

/**
 * Called once, on a thread of the library, when the response to a deferred request is not wanted any more.
 * Must not unwind.
 */
typedef void (*zb_cancel_callback)(void *user_data);

/**
 * Which kind of ring a buffer has.
 */
typedef int32_t zb_ring_kind;

/**
 * How full a buffer is.
 */
typedef int32_t zb_health;

/**
 * The state of a peer.
 */
typedef int32_t zb_presence;

/**
 * One side of a buffer.
 */
typedef struct zb_peer {
    /**
     * Whether a process has the role, and whether it lives (`ZB_PEER_...`).
     */
    zb_presence presence;
    /**
     * Whether the peer is a native one, whose state is certain. The state of a 1.x peer is judged by its
     * pid.
     */
    bool ours;
    /**
     * The process, in its own pid namespace; 0 if none.
     */
    uint64_t pid;
} zb_peer;

/**
 * A buffer at one moment. The library makes and frees it, and may append fields. The numbers come from
 * shared memory and are not checked against each other.
 */
typedef struct zb_snapshot {
    /**
     * The buffer's name.
     */
    const char *name;
    /**
     * Protocol version: major, minor, patch.
     */
    uint8_t version[3];
    /**
     * Which kind of ring it has (`ZB_RING_...`).
     */
    zb_ring_kind ring;
    /**
     * How full it is (`ZB_HEALTHY`, `ZB_DEGRADED`, `ZB_CRITICAL`).
     */
    zb_health health;
    /**
     * Share of the payload that is in use, 0 to 1.
     */
    double utilisation;
    /**
     * Bytes of the metadata block.
     */
    uint64_t metadata_size;
    /**
     * Bytes of metadata written, with the 8-byte prefix; 0 = none yet.
     */
    uint64_t metadata_written;
    /**
     * Bytes free in the metadata block.
     */
    uint64_t metadata_free;
    /**
     * Bytes of payload.
     */
    uint64_t payload_size;
    /**
     * Bytes of the payload that are free.
     */
    uint64_t payload_free;
    /**
     * Ring position of the next write.
     */
    uint64_t write_position;
    /**
     * Ring position of the next read.
     */
    uint64_t read_position;
    /**
     * Frames written, and in a classic ring wrap markers.
     */
    uint64_t written_count;
    /**
     * Frames read, and in a classic ring wrap markers.
     */
    uint64_t read_count;
    /**
     * The reading side.
     */
    struct zb_peer reader;
    /**
     * The writing side.
     */
    struct zb_peer writer;
    /**
     * Whether the buffer is kept for a reader that comes later.
     */
    bool kept;
    /**
     * Bytes of the whole file.
     */
    uint64_t file_size;
    /**
     * Bytes of memory that it occupies now.
     */
    uint64_t memory;
    /**
     * Owner's user id.
     */
    uint32_t owner;
    /**
     * Permission bits.
     */
    uint32_t mode;
    /**
     * Nanoseconds since the file was created, resized or given memory; -1 if unknown.
     */
    int64_t age_ns;
    /**
     * Values that cannot be true: `defect_count` texts.
     */
    const char *const *defects;
    /**
     * The number of defects.
     */
    size_t defect_count;
} zb_snapshot;

/**
 * Texts that the library made.
 */
typedef struct zb_names {
    /**
     * `count` of them.
     */
    const char *const *names;
    /**
     * The number of texts.
     */
    size_t count;
} zb_names;

/**
 * A frame that its reader lends until the reader's next call: bytes in shared memory, without the cost of owning them. `data` is
 * NULL when there was nothing to read.
 *
 * A reader lends one frame at a time. The loan ends with the next call that reads or waits for a writer,
 * with `zb_reader_release_frame_ref`, with `zb_reader_release_frame_ref_of` on any thread, or with
 * `zb_reader_keep_frame_ref`, which turns it into an owned frame. Closing the reader does not end the loan:
 * it lasts until one of the last three calls, or until the reader is freed.
 */
typedef struct zb_frame_ref {
    /**
     * The first byte.
     */
    const uint8_t *data;
    /**
     * Bytes of data.
     */
    size_t size;
    /**
     * The number that the writer gave the frame: 1, 2, 3 ...
     */
    uint64_t sequence;
} zb_frame_ref;

/**
 * The level of a message, or the level up to which messages are wanted.
 */
typedef int32_t zb_log_level;

/**
 * Gets one message. It may be called on several threads at once. It runs in the middle of a call: it may
 * close that call's handle and add or remove loggers, and must call nothing else. Must not unwind.
 */
typedef void (*zb_log_callback)(void *user_data, zb_log_level level, const char *target, const char *message);

/**
 * Called once by a thread of the library. Must not wait, and should only pass the news on: wake a thread, or post to an event loop
 * (`zb_set_callback_threads` is for those that do more). It may call any function of this library.
 */
typedef void (*zb_notify)(void *user_data);

/**
 * Handles a request, on a thread of the server: answers by `zb_responder_reply`, or by `zb_responder_acquire` and
 * `zb_responder_commit`, or fails by `zb_responder_fail`, once. Doing none of these answers with 0 bytes. `request` and `responder` are valid during the call. Must not unwind.
 */
typedef void (*zb_handler)(void *user_data, const struct zb_frame *request, struct zb_responder *responder);

/**
 * How a server runs its handler.
 */
typedef int32_t zb_processing_mode;

/**
 * Changes a request in place (`zb_frame_mutable_data`), on a thread of the server. The changed bytes are the
 * response. May fail by `zb_responder_fail`. `request` and `responder` are valid during the call. Must not
 * unwind.
 */
typedef void (*zb_mutable_handler)(void *user_data, struct zb_frame *request, struct zb_responder *responder);

/**
 * Gets an error, on a thread of the server. The error is valid during the call; the callback must not free
 * it. Must not unwind.
 */
typedef void (*zb_error_callback)(void *user_data, const struct zb_error *error);

/**
 * Gets a client's metadata, on a thread of the server, before its next request is handled. Must not unwind.
 */
typedef void (*zb_init_callback)(void *user_data, const uint8_t *metadata, size_t size);

/**
 * Payload sharing as a reader or a writer sees it. Figures but for `enabled`: others may change them at once, and a process
 * that was killed leaves them.
 */
typedef struct zb_payload_sharing {
    /**
     * Of a reader: whether it allows sharing, and its buffer can. Of a writer: whether it requests sharing, and its reader
     * allows it.
     */
    bool enabled;
    /**
     * Of a reader: how many of its frames are lent to other readers now. Of a writer: how many frames are lent through it.
     */
    uint64_t share_count;
    /**
     * The process that lends frames through this buffer; 0 = none.
     */
    uint64_t owner_pid;
} zb_payload_sharing;

/**
 * What a reader has done so far, and what it holds. Set `size` to `sizeof(zb_reader_stats)` first.
 *
 * Frames are held until they are released. They keep their space, and that of all later frames, from the writer.
 */
typedef struct zb_reader_stats {
    /**
     * The size of the structure, in bytes; afterwards how many of its bytes were filled in. Later versions may add figures.
     */
    size_t size;
    /**
     * Frames read.
     */
    uint64_t frames_read;
    /**
     * Bytes of data read, without headers.
     */
    uint64_t bytes_read;
    /**
     * How often a call found no frame and began to wait for one.
     */
    uint64_t waits;
    /**
     * Owned frames that have not been released. In a classic ring a frame that is lent counts too.
     */
    uint64_t frames_held;
    /**
     * Bytes of the ring that cannot go back to the writer because of them: their own, and those of later frames that were
     * released already, headers included.
     */
    uint64_t bytes_held;
    /**
     * The sequence number of the oldest one; 0 if none is held.
     */
    uint64_t oldest_held;
    /**
     * How many of the frames held are lent to other readers now (`zb_writer_forward`).
     */
    uint64_t frames_lent;
    /**
     * Frames read whose bytes lie in another reader's buffer, which lent them; they count as frames read, too.
     */
    uint64_t frames_shared;
    /**
     * Bytes of data of these.
     */
    uint64_t bytes_shared;
} zb_reader_stats;

/**
 * What a writer has done so far. Set `size` to `sizeof(zb_writer_stats)` first.
 */
typedef struct zb_writer_stats {
    /**
     * The size of the structure, in bytes; afterwards how many of its bytes were filled in. Later versions may add figures.
     */
    size_t size;
    /**
     * Frames written.
     */
    uint64_t frames_written;
    /**
     * Bytes of data written, without headers.
     */
    uint64_t bytes_written;
    /**
     * How often a call found no space and began to wait for some.
     */
    uint64_t waits;
    /**
     * How often a call found no space in time.
     */
    uint64_t full;
    /**
     * Frames that were forwarded without a copy (`zb_writer_forward`).
     */
    uint64_t frames_shared;
    /**
     * Frames that were forwarded by a copy.
     */
    uint64_t frames_copied;
} zb_writer_stats;

/**
 * What an output of a tee got.
 */
typedef struct zb_tee_output {
    /**
     * Name of the buffer that it writes, with a zero byte at its end.
     */
    char name[256];
    /**
     * Of a drop output, how many frames it has at most that its reader has not given back; 0: a block output.
     */
    size_t bound;
    /**
     * Frames that it got without a copy of its own.
     */
    uint64_t frames_shared;
    /**
     * Frames that it got as a copy of its own.
     */
    uint64_t frames_copied;
    /**
     * Frames that it did not get.
     */
    uint64_t frames_dropped;
    /**
     * Why it has ended, for example `ZB_ERROR_READER_DEAD`; `ZB_OK` while it gets frames.
     */
    zb_status ended;
} zb_tee_output;

/**
 * Some bytes.
 */
typedef struct zb_bytes {
    /**
     * The first byte.
     */
    const uint8_t *data;
    /**
     * The number of bytes.
     */
    size_t size;
} zb_bytes;

/**
 * Spin for a moment if the last waits were short, else sleep. The default.
 */
#define ZB_WAIT_ADAPTIVE 0

/**
 * Sleep at once: the least processor time, but each wait costs a wake-up by the kernel.
 */
#define ZB_WAIT_BLOCK 1

/**
 * Never sleep: the least latency, at the cost of a whole core.
 */
#define ZB_WAIT_SPIN 2

/**
 * Done.
 */
#define ZB_OK 0

/**
 * Nothing came, or became free, in time. This is no error, and there is no error object.
 */
#define ZB_TIMEOUT 1

/**
 * The writer closed and everything that it wrote has been read. Returned once per writer; no error.
 */
#define ZB_END_OF_STREAM 2

/**
 * No reader has created a buffer of this name (or its files are gone).
 */
#define ZB_ERROR_BUFFER_NOT_FOUND -1

/**
 * Another live writer is connected to the buffer.
 */
#define ZB_ERROR_WRITER_ALREADY_CONNECTED -2

/**
 * Another live reader owns the buffer.
 */
#define ZB_ERROR_READER_ALREADY_CONNECTED -3

/**
 * No space became free before the write time-out ended.
 */
#define ZB_ERROR_BUFFER_FULL -4

/**
 * The reader died, or closed the buffer: no process will read what is written.
 */
#define ZB_ERROR_READER_DEAD -5

/**
 * The writer died; everything that it had committed has been delivered.
 */
#define ZB_ERROR_WRITER_DEAD -6

/**
 * The writer closed. Functions that read return `ZB_END_OF_STREAM` instead.
 */
#define ZB_ERROR_WRITER_CLOSED -7

/**
 * The frame, with its 16-byte header, is larger than the buffer's payload.
 */
#define ZB_ERROR_FRAME_TOO_LARGE -8

/**
 * A frame of 0 bytes, or a commit of more bytes than were acquired.
 */
#define ZB_ERROR_INVALID_FRAME_SIZE -9

/**
 * A frame is missing: its sequence number is not the next one.
 */
#define ZB_ERROR_SEQUENCE_ERROR -10

/**
 * Metadata is written at most once per buffer.
 */
#define ZB_ERROR_METADATA_ALREADY_WRITTEN -11

/**
 * The metadata, with its 8-byte prefix, is larger than the buffer's metadata block.
 */
#define ZB_ERROR_METADATA_TOO_LARGE -12

/**
 * The buffer's name cannot be used.
 */
#define ZB_ERROR_INVALID_NAME -13

/**
 * The configuration cannot be used.
 */
#define ZB_ERROR_INVALID_CONFIG -14

/**
 * The call does not fit the state of the handle, or another thread is using it.
 */
#define ZB_ERROR_INVALID_STATE -15

/**
 * The buffer speaks another version of the protocol.
 */
#define ZB_ERROR_INCOMPATIBLE_PROTOCOL -16

/**
 * The shared memory holds values that cannot be true.
 */
#define ZB_ERROR_CORRUPT_BUFFER -17

/**
 * The operating system refused access.
 */
#define ZB_ERROR_PERMISSION_DENIED -18

/**
 * The shared-memory file system, or a limit on it, has no room left.
 */
#define ZB_ERROR_OUT_OF_MEMORY -19

/**
 * An interrupt ended the call.
 */
#define ZB_ERROR_INTERRUPTED -20

/**
 * The handle has been closed.
 */
#define ZB_ERROR_CLOSED -21

/**
 * The handler of a duplex server failed for this request only; the message is the handler's.
 */
#define ZB_ERROR_REQUEST_FAILED -22

/**
 * The request was cancelled.
 */
#define ZB_ERROR_CANCELLED -23

/**
 * No response came in time.
 */
#define ZB_ERROR_DEADLINE_EXCEEDED -24

/**
 * A handler of a duplex server is still running; the server ends when it returns.
 */
#define ZB_ERROR_HANDLER_BUSY -25

/**
 * Any other failure of the operating system.
 */
#define ZB_ERROR_SYSTEM -26

/**
 * A pointer is NULL where NULL is not allowed, or another argument is invalid.
 */
#define ZB_ERROR_INVALID_ARGUMENT -100

/**
 * The library itself failed: please report it.
 */
#define ZB_ERROR_INTERNAL -101

/**
 * Less than 80 % of the payload is in use.
 */
#define ZB_HEALTHY 0

/**
 * 80 % or more, less than 95 %.
 */
#define ZB_DEGRADED 1

/**
 * 95 % or more.
 */
#define ZB_CRITICAL 2

/**
 * The layout that 1.x peers know.
 */
#define ZB_RING_CLASSIC 0

/**
 * The layout between two native peers.
 */
#define ZB_RING_EXTENDED 1

/**
 * Not decided yet. A native writer decides when it connects, a 1.x writer when it commits its first frame.
 */
#define ZB_RING_UNDECIDED 2

/**
 * No process has the role.
 */
#define ZB_PEER_ABSENT 0

/**
 * A live process has the role.
 */
#define ZB_PEER_ALIVE 1

/**
 * The process that had the role died.
 */
#define ZB_PEER_DEAD 2

/**
 * The process that had the role closed its handle.
 */
#define ZB_PEER_CLOSED 3

/**
 * No messages.
 */
#define ZB_LOG_OFF 0

/**
 * Permanent failures.
 */
#define ZB_LOG_ERROR 1

/**
 * Problems that a person should look at.
 */
#define ZB_LOG_WARN 2

/**
 * Events, such as a clean-up of what a dead process left.
 */
#define ZB_LOG_INFO 3

/**
 * Details that help to find a fault.
 */
#define ZB_LOG_DEBUG 4

/**
 * All messages.
 */
#define ZB_LOG_TRACE 5

/**
 * One request after the other, on the thread that reads the request buffer. The default.
 */
#define ZB_SINGLE_THREAD 0

/**
 * Several requests at once; responses may overtake each other.
 */
#define ZB_THREAD_POOL 1

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Sends a request, copied, and returns at once. `callback` is called once with its outcome, which comes within `timeout_ms`: by a thread
 * of the library, by one that is in a call of this client, or by this one before the function returns. `call`, which
 * may be NULL, gets the number by which `zb_client_cancel_call` knows it, before the callback can come. If there is no space, the request waits for it.
 *
 * When the client is closed, or the channel ends, the callbacks of all calls under way get that error. `destroy`, which may be NULL, is
 * called exactly once with `user_data`: after the callback, when the call is cancelled, or before this function returns an error.
 *
 * Errors, which do not come to the callback: `INVALID_ARGUMENT`, `INVALID_FRAME_SIZE` (0 bytes), `FRAME_TOO_LARGE`; `CLOSED`, or the error
 * that ended the channel; `BUFFER_FULL` for a time-out of 0. The callback gets those of `zb_client_call`.
 */
zb_status zb_client_call_async(const struct zb_client *client,
                               const uint8_t *data,
                               size_t size,
                               int64_t timeout_ms,
                               zb_call_done callback,
                               void *user_data,
                               zb_destroy destroy,
                               uint64_t *call,
                               struct zb_error **error);

/**
 * Withdraws a call of `zb_client_call_async`, and its request. `waited`, which may be NULL, gets whether it was still under way: then the
 * callback is not called any more. If not, it has been called, or is being called.
 *
 * Errors: `INVALID_ARGUMENT`.
 */
zb_status zb_client_cancel_call(const struct zb_client *client,
                                uint64_t call,
                                bool *waited,
                                struct zb_error **error);

/**
 * Connects to the server of `channel`, and creates the response buffer. `options` may be NULL for all defaults. Free it with
 * `zb_client_free`.
 *
 * Errors: `BUFFER_NOT_FOUND` if there is no server, `READER_DEAD` if it died, `WRITER_ALREADY_CONNECTED` if
 * it has a client; those of `zb_reader_create` and `zb_writer_connect`.
 */
zb_status zb_client_connect(const char *channel,
                            const struct zb_client_options *options,
                            struct zb_client **client,
                            struct zb_error **error);

/**
 * Like `zb_client_connect`, for a name of `length` bytes that need not end with a zero byte, and in which a zero byte is refused.
 */
zb_status zb_client_connect_n(const char *channel,
                              size_t length,
                              const struct zb_client_options *options,
                              struct zb_client **client,
                              struct zb_error **error);

/**
 * The largest request, in bytes: the payload size of the request buffer less a header of 16 bytes. 0 for NULL.
 */
size_t zb_client_max_request_size(const struct zb_client *client);

/**
 * Describes this client to the server, whose `on_init` gets the bytes before the next request. At most once per client.
 *
 * Errors: `METADATA_ALREADY_WRITTEN`, `METADATA_TOO_LARGE`; `CLOSED`, or the error that ended the channel.
 */
zb_status zb_client_set_metadata(const struct zb_client *client,
                                 const uint8_t *data,
                                 size_t size,
                                 struct zb_error **error);

/**
 * Copies `data` into the request buffer as one request. `sequence`, which may be NULL, gets its number. Its response is for
 * `zb_client_receive_response`. Waits for space up to the request time-out of the options.
 *
 * Errors: `INVALID_FRAME_SIZE` (0 bytes), `FRAME_TOO_LARGE`, `BUFFER_FULL`, `OUT_OF_MEMORY`; `INVALID_STATE`
 * if this thread has acquired a request buffer; `READER_DEAD`, `WRITER_DEAD`, `CLOSED`, or another error
 * that ended the channel.
 */
zb_status zb_client_send_request(const struct zb_client *client,
                                 const uint8_t *data,
                                 size_t size,
                                 uint64_t *sequence,
                                 struct zb_error **error);

/**
 * Like `zb_client_send_request`, with a deadline `timeout_ms` from now. If the server has not started the
 * request by then, it does not start it, and the outcome is `DEADLINE_EXCEEDED`.
 */
zb_status zb_client_send_request_within(const struct zb_client *client,
                                        const uint8_t *data,
                                        size_t size,
                                        int64_t timeout_ms,
                                        uint64_t *sequence,
                                        struct zb_error **error);

/**
 * Acquires `size` bytes of the request buffer, to be filled in place: `*data` gets the address of the first
 * byte, `*sequence` (may be NULL) the number that the request will have. Call `zb_client_commit_request`,
 * `zb_client_call_acquired` or `zb_client_discard_request` afterwards, on this thread. Other threads that
 * send wait meanwhile.
 *
 * Errors: those of `zb_client_send_request`.
 */
zb_status zb_client_acquire_request_buffer(const struct zb_client *client,
                                           size_t size,
                                           uint64_t *sequence,
                                           uint8_t **data,
                                           struct zb_error **error);

/**
 * Sends the request that this thread has acquired. `sequence`, which may be NULL, gets its number.
 *
 * Errors: `INVALID_STATE` if this thread has acquired none; `CLOSED`, or the error that ended the channel
 * meanwhile.
 */
zb_status zb_client_commit_request(const struct zb_client *client,
                                   uint64_t *sequence,
                                   struct zb_error **error);

/**
 * Sends the request that this thread has acquired, and waits up to `timeout_ms` for its response, like
 * `zb_client_call`.
 */
zb_status zb_client_call_acquired(const struct zb_client *client,
                                  int64_t timeout_ms,
                                  struct zb_frame *response,
                                  struct zb_error **error);

/**
 * Discards the request that this thread has acquired.
 *
 * Errors: `INVALID_STATE` if this thread has acquired none.
 */
zb_status zb_client_discard_request(const struct zb_client *client, struct zb_error **error);

/**
 * Waits up to `timeout_ms` for the next outcome that no other caller waits for, in the order of arrival.
 * Returns `ZB_OK` and a response; or `ZB_TIMEOUT` or an error, and an empty frame. The `data` of a response
 * of 0 bytes is not NULL.
 *
 * Errors: about one request (`zb_error_sequence`): `REQUEST_FAILED`, `CANCELLED`, `DEADLINE_EXCEEDED`. About
 * the channel, from now on: `WRITER_DEAD` or `READER_DEAD` (the server died or stopped), `CLOSED`, or
 * another error that ended it.
 */
zb_status zb_client_receive_response(const struct zb_client *client,
                                     int64_t timeout_ms,
                                     struct zb_frame *response,
                                     struct zb_error **error);

/**
 * Like `zb_client_receive_response`, for the outcome of one request.
 *
 * Errors: those of `zb_client_receive_response`; `INVALID_STATE` if the request's outcome has been returned
 * already, or there was no such request.
 */
zb_status zb_client_receive_response_to(const struct zb_client *client,
                                        uint64_t sequence,
                                        int64_t timeout_ms,
                                        struct zb_frame *response,
                                        struct zb_error **error);

/**
 * Sends a request and waits up to `timeout_ms` for its response, while other threads may send and receive.
 *
 * Errors: `REQUEST_FAILED` with the handler's message, `DEADLINE_EXCEEDED`, `CANCELLED`; those of
 * `zb_client_send_request`, with `BUFFER_FULL` after `timeout_ms`.
 */
zb_status zb_client_call(const struct zb_client *client,
                         const uint8_t *data,
                         size_t size,
                         int64_t timeout_ms,
                         struct zb_frame *response,
                         struct zb_error **error);

/**
 * Cancels a request: its outcome is `CANCELLED`, at once. `under_way`, which may be NULL, gets whether the
 * request was still under way.
 *
 * Errors: the one that ended the channel.
 */
zb_status zb_client_cancel_request(const struct zb_client *client,
                                   uint64_t sequence,
                                   bool *under_way,
                                   struct zb_error **error);

/**
 * Whether the server lives and reads requests; false for NULL.
 */
bool zb_client_is_server_connected(const struct zb_client *client);

/**
 * The channel's name; valid until the client is freed.
 */
const char *zb_client_channel(const struct zb_client *client);

/**
 * Closes the client. Waiting calls of other threads get `CLOSED`. The channel is free for the next client.
 * Responses that are still held stay valid. The handle must still be freed. A second close does nothing.
 */
zb_status zb_client_close(const struct zb_client *client, struct zb_error **error);

/**
 * Closes the client, if it is not closed, and frees it. No other thread may be using it. NULL is fine.
 */
void zb_client_free(struct zb_client *client);

/**
 * A config with all defaults: 4096 bytes of metadata, 256 MiB of payload, mode 0600. Free it with `zb_config_free`.
 */
struct zb_config *zb_config_new(void);

/**
 * Bytes of the metadata block, rounded up to a multiple of 64. 8 of them hold the length.
 */
zb_status zb_config_set_metadata_size(struct zb_config *config, size_t bytes);

/**
 * Bytes of the ring, rounded up to a multiple of 64. A frame needs its size plus 16.
 */
zb_status zb_config_set_payload_size(struct zb_config *config, size_t bytes);

/**
 * Permission bits of the buffer's files, set exactly, whatever the umask is.
 */
zb_status zb_config_set_mode(struct zb_config *config, uint32_t mode);

/**
 * Whether to reserve and touch all memory at creation.
 */
zb_status zb_config_set_preallocate(struct zb_config *config, bool preallocate);

/**
 * Whether to reserve and touch all memory at creation, in huge pages as far as the kernel has some.
 * `zb_reader_get_huge_page_bytes` tells what the buffer got.
 */
zb_status zb_config_set_huge_pages(struct zb_config *config, bool huge_pages);

/**
 * The NUMA node whose memory the buffer shall use, as far as there is room, or `ZB_NUMA_NODE_OF_READER`.
 */
zb_status zb_config_set_numa_node(struct zb_config *config, int32_t node);

/**
 * Whether to keep the ring classic (the layout that 1.x peers know), whichever writer connects.
 */
zb_status zb_config_set_classic(struct zb_config *config, bool classic);

/**
 * Whether the reader's frames may be lent to other readers, and it takes frames that are lent to it (`zb_writer_forward`). Who may
 * read the buffer that they are forwarded to may look at all of this one.
 */
zb_status zb_config_set_allow_payload_sharing(struct zb_config *config,
                                              bool allow);

/**
 * How the reader waits for frames.
 */
zb_status zb_config_set_wait_strategy(struct zb_config *config, zb_wait_strategy wait);

/**
 * Frees a config. NULL is fine.
 */
void zb_config_free(struct zb_config *config);

/**
 * Options with all defaults: writes wait for 5 s, connecting does not wait. Free them with `zb_writer_options_free`.
 */
struct zb_writer_options *zb_writer_options_new(void);

/**
 * How long a write waits for space, in milliseconds: 0 polls once, a negative number waits without limit.
 */
zb_status zb_writer_options_set_write_timeout(struct zb_writer_options *options, int64_t timeout_ms);

/**
 * How long connecting waits for a reader to create the buffer, in milliseconds.
 */
zb_status zb_writer_options_set_connect_timeout(struct zb_writer_options *options, int64_t timeout_ms);

/**
 * Whether `zb_writer_forward` lends frames rather than copying them, where both readers allow it.
 */
zb_status zb_writer_options_set_request_payload_sharing(struct zb_writer_options *options, bool request);

/**
 * How the writer waits for space.
 */
zb_status zb_writer_options_set_wait_strategy(struct zb_writer_options *options, zb_wait_strategy wait);

/**
 * Frees options. NULL is fine.
 */
void zb_writer_options_free(struct zb_writer_options *options);

/**
 * Options with all defaults: sending waits for 5 s, connecting does not wait, the response buffer is a default one. Free
 * them with `zb_client_options_free`.
 */
struct zb_client_options *zb_client_options_new(void);

/**
 * How long connecting waits for a server, in milliseconds.
 */
zb_status zb_client_options_set_connect_timeout(struct zb_client_options *options, int64_t timeout_ms);

/**
 * How long sending a request waits for space, and for other threads that send, in milliseconds.
 */
zb_status zb_client_options_set_request_timeout(struct zb_client_options *options, int64_t timeout_ms);

/**
 * Sizes and mode of the response buffer; NULL for the defaults.
 */
zb_status zb_client_options_set_response_config(struct zb_client_options *options,
                                                const struct zb_config *config);

/**
 * Frees options. NULL is fine.
 */
void zb_client_options_free(struct zb_client_options *options);

/**
 * Defers the answer to the request, within its handler. Any thread answers later, by `zb_deferred_reply` or
 * `zb_deferred_fail`, and no thread of the server waits for it. Until then the request's bytes stay in
 * place. Free it with `zb_deferred_free`.
 *
 * Errors: `INVALID_STATE` if the request has been answered, failed or deferred, or the server is a mutable one.
 */
zb_status zb_responder_defer(struct zb_responder *responder,
                             struct zb_deferred **deferred,
                             struct zb_error **error);

/**
 * Answers the request with a copy of `data`, which may be bytes of the request; the request ends with this
 * call. Waits for space in the response buffer. The server's error callback gets an error of sending. After
 * a stop the answer is dropped.
 *
 * Errors: `INVALID_STATE` if it has been answered or failed.
 */
zb_status zb_deferred_reply(const struct zb_deferred *deferred,
                            const uint8_t *data,
                            size_t size,
                            struct zb_error **error);

/**
 * Fails this request only: the client gets `REQUEST_FAILED` with this message (bytes that are not UTF-8 are
 * replaced), and the server's error callback gets the error.
 *
 * Errors: `INVALID_STATE` if it has been answered or failed.
 */
zb_status zb_deferred_fail(const struct zb_deferred *deferred, const char *message, struct zb_error **error);

/**
 * Whether the response is not wanted any more, like `zb_frame_is_cancelled` of the request. False for NULL,
 * and after an answer.
 */
bool zb_deferred_is_cancelled(const struct zb_deferred *deferred);

/**
 * Sets a function that is called once, within a few milliseconds after the response is no longer wanted,
 * unless the request has been answered by then. It replaces an earlier one. `destroy`, which may be NULL, is
 * called with `user_data` when the callback is not used any more, or when this function fails. Neither an
 * answer nor freeing waits for a callback that is running.
 *
 * Errors: `INVALID_STATE` if it has been answered or failed; `SYSTEM` if no thread can be started.
 */
zb_status zb_deferred_on_cancel(const struct zb_deferred *deferred,
                                zb_cancel_callback callback,
                                void *user_data,
                                zb_destroy destroy,
                                struct zb_error **error);

/**
 * Frees the deferred answer. A request that has not been answered fails. NULL is fine.
 */
void zb_deferred_free(struct zb_deferred *deferred);

/**
 * The error's number; `ZB_OK` for NULL.
 */
zb_status zb_error_code(const struct zb_error *error);

/**
 * The error's message (UTF-8): the buffer, the cause, the way out. Valid until the error is freed; empty for
 * NULL.
 */
const char *zb_error_message(const struct zb_error *error);

/**
 * The name of the buffer that the error is about; empty if it is about none. Valid until the error is freed.
 */
const char *zb_error_buffer(const struct zb_error *error);

/**
 * The operating system's number (`errno`), 0 if it was not the operating system.
 */
int32_t zb_error_os_error(const struct zb_error *error);

/**
 * The sequence number of the request of a duplex channel that the error is about, 0 if it is not about a
 * single request.
 */
uint64_t zb_error_sequence(const struct zb_error *error);

/**
 * The gap that a `SEQUENCE_ERROR` is about: `*expected` gets the sequence number that the next frame had to have, `*got` the one
 * that it has. Each place may be NULL. Returns whether the error is about a gap; both numbers are 0 if not.
 */
bool zb_error_sequence_gap(const struct zb_error *error,
                           uint64_t *expected,
                           uint64_t *got);

/**
 * Frees an error. NULL is fine.
 */
void zb_error_free(struct zb_error *error);

/**
 * The name of a status without its prefix, such as "BUFFER_FULL"; "UNKNOWN" for other numbers. Never freed.
 */
const char *zb_status_name(zb_status status);

/**
 * Gives the bytes back and makes the frame empty. NULL, an empty frame and a handler's request are allowed,
 * and left alone.
 */
void zb_frame_release(struct zb_frame *frame);

/**
 * Makes a frame with a copy of the bytes, in its own memory, for tests of handlers, which may also change it
 * in place (`zb_frame_mutable_data`). Release it like any other frame.
 *
 * Errors: `INVALID_ARGUMENT`.
 */
zb_status zb_frame_copy_of(const uint8_t *data,
                           size_t size,
                           uint64_t sequence,
                           struct zb_frame *frame,
                           struct zb_error **error);

/**
 * The bytes of a request that the handler of a mutable server may change, or of a copy; NULL for any other frame.
 */
uint8_t *zb_frame_mutable_data(struct zb_frame *frame);

/**
 * Whether the response to this request is no longer wanted: the client has cancelled the request or given it
 * up, its deadline is over, or the server has been stopped. False for any other frame. A handler that works
 * for long should check this regularly.
 */
bool zb_frame_is_cancelled(const struct zb_frame *frame);

/**
 * How long the client of this request still waits for its response, in nanoseconds; -1 if it set no limit, and for any
 * other frame.
 */
int64_t zb_frame_time_left_ns(const struct zb_frame *frame);

/**
 * Takes a snapshot of the buffer `name`, without changing it. Free it with `zb_snapshot_free`.
 *
 * Errors: `BUFFER_NOT_FOUND`, `PERMISSION_DENIED`, `INVALID_NAME`, `INCOMPATIBLE_PROTOCOL`.
 */
zb_status zb_inspect_snapshot(const char *name, struct zb_snapshot **snapshot, struct zb_error **error);

/**
 * Like `zb_inspect_snapshot`, for a name of `length` bytes that need not end with a zero byte, and in which a zero byte is refused.
 */
zb_status zb_inspect_snapshot_n(const char *name,
                                size_t length,
                                struct zb_snapshot **snapshot,
                                struct zb_error **error);

/**
 * Frees a snapshot. NULL is fine.
 */
void zb_snapshot_free(struct zb_snapshot *snapshot);

/**
 * Names of all buffers on this machine, live or not, in alphabetical order. Free them with `zb_names_free`.
 *
 * Errors: `SYSTEM`, `PERMISSION_DENIED`.
 */
zb_status zb_inspect_list(struct zb_names **names, struct zb_error **error);

/**
 * Frees names. NULL is fine.
 */
void zb_names_free(struct zb_names *names);

/**
 * Makes the call that is blocked now, or else the next one that may block, fail once with `ZB_ERROR_INTERRUPTED`.
 */
zb_status zb_interrupt_fire(const struct zb_interrupt *interrupt,
                            struct zb_error **error);

/**
 * Frees an interrupt. NULL is fine.
 */
void zb_interrupt_free(struct zb_interrupt *interrupt);

/**
 * Creates the buffer `name`, to be taken over by a reader that comes later. `config` may be NULL for all defaults. Free it with
 * `zb_kept_buffer_free`.
 *
 * Errors: those of `zb_reader_create`.
 */
zb_status zb_kept_buffer_create(const char *name,
                                const struct zb_config *config,
                                struct zb_kept_buffer **kept,
                                struct zb_error **error);

/**
 * Like `zb_kept_buffer_create`, for a name of `length` bytes that need not end with a zero byte, and in which a zero byte is refused.
 */
zb_status zb_kept_buffer_create_n(const char *name,
                                  size_t length,
                                  const struct zb_config *config,
                                  struct zb_kept_buffer **kept,
                                  struct zb_error **error);

/**
 * Whether a reader has taken the buffer over.
 */
zb_status zb_kept_buffer_is_adopted(const struct zb_kept_buffer *kept,
                                    bool *adopted,
                                    struct zb_error **error);

/**
 * Ends the keeping. `adopted`, which may be NULL, gets whether a reader had taken the buffer over. If none
 * had, its names are removed and the frames in it are lost. The handle must still be freed. A second close
 * does nothing.
 */
zb_status zb_kept_buffer_close(const struct zb_kept_buffer *kept, bool *adopted, struct zb_error **error);

/**
 * Ends the keeping, if it has not ended, and frees the handle. NULL is fine.
 */
void zb_kept_buffer_free(struct zb_kept_buffer *kept);

/**
 * Waits up to `timeout_ms` for a frame, and returns the newest one: those before it are passed over, and their space goes
 * back at once. `zb_reader_frames_skipped` counts them. Only frames of one writer are passed over: the newest frame of a
 * writer that ended comes before its end, and its end before the next writer's newest frame.
 *
 * Statuses and errors are those of `zb_reader_read_frame`.
 */
zb_status zb_reader_read_latest_frame(const struct zb_reader *reader,
                                      int64_t timeout_ms,
                                      struct zb_frame *frame,
                                      struct zb_error **error);

/**
 * Like `zb_reader_read_latest_frame`, but lends the frame: see `zb_frame_ref`. First gives back the frame that was lent before,
 * if it was not released.
 */
zb_status zb_reader_read_latest_frame_ref(const struct zb_reader *reader,
                                          int64_t timeout_ms,
                                          struct zb_frame_ref *frame,
                                          struct zb_error **error);

/**
 * Frames that `zb_reader_read_latest_frame` and `zb_reader_read_latest_frame_ref` passed over so far. They do not count as read.
 * From any thread.
 */
uint64_t zb_reader_frames_skipped(const struct zb_reader *reader);

/**
 * Adds a logger, which gets the library's messages up to `level`, like every other added logger. `destroy`,
 * which may be NULL, is called with `user_data` when the callback is not used any more, or when this
 * function fails. Remove it with `zb_logger_remove`.
 *
 * The library logs clean-up and repair only, never on the way of a frame.
 *
 * Errors: `INVALID_ARGUMENT` (no callback, or no such level); `INVALID_STATE` if the program already has a logger of Rust's
 * `log` crate, which gets the messages then.
 */
zb_status zb_logger_add(zb_log_callback callback,
                        zb_log_level level,
                        void *user_data,
                        zb_destroy destroy,
                        struct zb_logger **logger,
                        struct zb_error **error);

/**
 * Removes a logger and frees it. When this returns, no thread is in its callback, and none will enter it, so
 * its code may be unloaded. A call from the callback itself does not wait for that callback. NULL is fine.
 */
void zb_logger_remove(struct zb_logger *logger);

/**
 * Sets a callback for the library's messages up to `level`, in place of the one that an earlier call of this
 * function set; NULL for none. Loggers of `zb_logger_add` stay. Use `zb_logger_add` in libraries that may be
 * unloaded, or of which a program may have several. `destroy`, which may be NULL, is called with `user_data`
 * when the callback is not used any more, or when this function fails.
 *
 * The library logs clean-up and repair only, never on the way of a frame.
 *
 * Errors: `INVALID_ARGUMENT` (no such level); `INVALID_STATE` if the program already has a logger of Rust's `log` crate, which
 * gets the messages then.
 */
zb_status zb_set_logger(zb_log_callback callback,
                        zb_log_level level,
                        void *user_data,
                        zb_destroy destroy,
                        struct zb_error **error);

/**
 * Has at least `count` threads call back, at most 16, on which callbacks may do anything for any time: they have large stacks, and take
 * the signals that the thread takes which first sets a callback. As long as fewer than `count` callbacks run, others are called at once.
 *
 * By default there is one thread, whose callbacks must not wait. To be called before the first callback is set. Returns false if it comes too
 * late, as long as a callback may still come. A larger count of an earlier call stays.
 */
bool zb_set_callback_threads(size_t count);

/**
 * A file descriptor for event loops: *ready to read* (POLLIN, EPOLLIN) means that there may be a frame, or an end.
 *
 * Works with poll, select, and epoll of both kinds. Poll it for reading only. It is ready at first. Whenever it is
 * ready, read with a time-out of 0: it stays ready until such a read returns `ZB_TIMEOUT`, so an edge-triggered
 * loop reads until then. Never read from it, write to it or close it: it is closed with the reader. A forked child has none.
 *
 * Errors: `SYSTEM` if there is no file descriptor left, or no thread; `INVALID_STATE` in a forked child.
 */
zb_status zb_reader_fd(const struct zb_reader *reader,
                       int *fd,
                       struct zb_error **error);

/**
 * Calls `callback` once, as soon as there may be a frame, or an end: at once if the descriptor (`zb_reader_fd`) is ready. So read with a
 * time-out of 0 first, and ask when that returns `ZB_TIMEOUT`. One thread of the library calls back for the whole process, unless
 * `zb_set_callback_threads` asks for more. A second callback replaces one that still waits. It may come before this function
 * returns; until then this thread uses the reader, so another one that reads gets `INVALID_STATE`.
 *
 * `destroy`, which may be NULL, is called exactly once with `user_data`: after the callback, when the callback is called off or
 * replaced, when the reader is closed, or before this function returns an error.
 *
 * Errors: those of `zb_reader_fd`.
 */
zb_status zb_reader_notify(const struct zb_reader *reader,
                           zb_notify callback,
                           void *user_data,
                           zb_destroy destroy,
                           struct zb_error **error);

/**
 * Calls a callback of `zb_reader_notify` off. `waited`, which may be NULL, gets whether it still waited: if not, it has been called, or
 * is being called.
 */
zb_status zb_reader_cancel_notify(const struct zb_reader *reader,
                                  bool *waited,
                                  struct zb_error **error);

/**
 * A file descriptor for event loops, like `zb_reader_fd`: *ready to read* means that there may be space, or an end. Poll it for reading, too.
 * It stays ready until a write that does not wait finds no space (`zb_writer_try_write_frame`).
 *
 * Errors: `SYSTEM` if there is no file descriptor left, or no thread; `INVALID_STATE` in a forked child.
 */
zb_status zb_writer_fd(const struct zb_writer *writer,
                       int *fd,
                       struct zb_error **error);

/**
 * Calls `callback` once, as soon as there may be space, or an end; otherwise like `zb_reader_notify`.
 *
 * Errors: those of `zb_writer_fd`.
 */
zb_status zb_writer_notify(const struct zb_writer *writer,
                           zb_notify callback,
                           void *user_data,
                           zb_destroy destroy,
                           struct zb_error **error);

/**
 * Calls a callback of `zb_writer_notify` off; otherwise like `zb_reader_cancel_notify`.
 */
zb_status zb_writer_cancel_notify(const struct zb_writer *writer, bool *waited, struct zb_error **error);

/**
 * A file descriptor for event loops, like `zb_reader_fd`: *ready to read* means that there may be a response for
 * `zb_client_receive_response`, or the channel's end. It stays ready until that returns `ZB_TIMEOUT` for a time-out of 0. It is closed
 * with `zb_client_free`. Other threads may use the client meanwhile.
 *
 * Errors: `SYSTEM` if there is no file descriptor left, or no thread; `INVALID_STATE` in a forked child; the one
 * that ended the channel.
 */
zb_status zb_client_fd(const struct zb_client *client,
                       int *fd,
                       struct zb_error **error);

/**
 * Calls `callback` once, as soon as there may be a response for `zb_client_receive_response`, or the channel's end; otherwise like
 * `zb_reader_notify`.
 *
 * Errors: those of `zb_client_fd`.
 */
zb_status zb_client_notify(const struct zb_client *client,
                           zb_notify callback,
                           void *user_data,
                           zb_destroy destroy,
                           struct zb_error **error);

/**
 * Calls a callback of `zb_client_notify` off; otherwise like `zb_reader_cancel_notify`.
 */
zb_status zb_client_cancel_notify(const struct zb_client *client, bool *waited, struct zb_error **error);

/**
 * Creates the buffer `name` and becomes its reader. `config` may be NULL for all defaults. Free it with `zb_reader_free`.
 *
 * First removes the files that a dead reader left under this name. Takes over a kept buffer, with the frames
 * in it.
 *
 * Errors: `INVALID_NAME`, `INVALID_CONFIG`, `READER_ALREADY_CONNECTED`, `OUT_OF_MEMORY`, `PERMISSION_DENIED`,
 * `INCOMPATIBLE_PROTOCOL`.
 */
zb_status zb_reader_create(const char *name,
                           const struct zb_config *config,
                           struct zb_reader **reader,
                           struct zb_error **error);

/**
 * Like `zb_reader_create`, for a name of `length` bytes that need not end with a zero byte, and in which a zero byte is refused.
 */
zb_status zb_reader_create_n(const char *name,
                             size_t length,
                             const struct zb_config *config,
                             struct zb_reader **reader,
                             struct zb_error **error);

/**
 * Waits up to `timeout_ms` for the next frame: `ZB_OK` and a frame, or `ZB_TIMEOUT`, or `ZB_END_OF_STREAM`,
 * or an error, and an empty frame. 0 polls once, a negative time-out waits without limit.
 *
 * Errors: `WRITER_DEAD` (once, after everything that the writer had committed), `SEQUENCE_ERROR`, `CORRUPT_BUFFER`,
 * `INTERRUPTED`, `BUFFER_NOT_FOUND`, `CLOSED`, `INVALID_STATE`.
 */
zb_status zb_reader_read_frame(const struct zb_reader *reader,
                               int64_t timeout_ms,
                               struct zb_frame *frame,
                               struct zb_error **error);

/**
 * Returns the next frame if there is one now. Like `zb_reader_read_frame` with a time-out of 0, but leaves
 * interrupts alone.
 */
zb_status zb_reader_try_read_frame(const struct zb_reader *reader,
                                   struct zb_frame *frame,
                                   struct zb_error **error);

/**
 * Like `zb_reader_read_frame`, but lends the frame, which is the cheapest way to read: see `zb_frame_ref`.
 * First gives back the frame that was lent before, if it was not released.
 */
zb_status zb_reader_read_frame_ref(const struct zb_reader *reader,
                                   int64_t timeout_ms,
                                   struct zb_frame_ref *frame,
                                   struct zb_error **error);

/**
 * Gives back the frame that the reader has lent, if any, without reading the next one. Works on a closed
 * reader too.
 *
 * Errors: `CLOSED`, `INVALID_STATE`.
 */
zb_status zb_reader_release_frame_ref(const struct zb_reader *reader, struct zb_error **error);

/**
 * Gives back the frame `sequence` if the reader has lent it. May be called on any thread, during any call of
 * the reader. Does nothing if the loan has ended already, so a late call does no harm.
 */
zb_status zb_reader_release_frame_ref_of(const struct zb_reader *reader,
                                         uint64_t sequence,
                                         struct zb_error **error);

/**
 * Turns the frame that the reader has lent into an owned frame, which stays valid until `zb_frame_release`
 * on any thread, whatever the reader does. Works on a closed reader too.
 *
 * Errors: `INVALID_STATE` if no frame is lent, or another thread is using the reader.
 */
zb_status zb_reader_keep_frame_ref(const struct zb_reader *reader,
                                   struct zb_frame *frame,
                                   struct zb_error **error);

/**
 * Waits up to `timeout_ms` for a first frame, then takes it and the frames behind it, at most `max`, without
 * waiting again. `frames` has room for `max` frames. The function fills `*count` of them; release each.
 *
 * Statuses and errors are those of `zb_reader_read_frame`; it fails only if there is no frame.
 */
zb_status zb_reader_read_frames(const struct zb_reader *reader,
                                struct zb_frame *frames,
                                size_t max,
                                int64_t timeout_ms,
                                size_t *count,
                                struct zb_error **error);

/**
 * Whether a writer lives, or committed frames are still unread. Any thread may call it, during any call of
 * the reader. Changes nothing.
 *
 * Errors: `CLOSED`; `INVALID_STATE` in a forked child.
 */
zb_status zb_reader_is_writer_connected(const struct zb_reader *reader,
                                        bool *connected,
                                        struct zb_error **error);

/**
 * Waits up to `timeout_ms` for a writer. Returns `ZB_OK` when a writer is connected (or was, and left
 * frames), else `ZB_TIMEOUT`.
 *
 * Errors: `INTERRUPTED`, `BUFFER_NOT_FOUND`, `SYSTEM`, `CLOSED`, `INVALID_STATE`.
 */
zb_status zb_reader_wait_for_writer(const struct zb_reader *reader,
                                    int64_t timeout_ms,
                                    struct zb_error **error);

/**
 * Copies up to `capacity` bytes of the metadata to `target`, and sets `*size` to the whole size of the
 * metadata. If the writer has set none yet, `*size` is 0 and the function returns `ZB_TIMEOUT`. To learn the
 * size first, pass NULL and 0.
 *
 * Errors: `CORRUPT_BUFFER`, `CLOSED`, `INVALID_STATE`.
 */
zb_status zb_reader_get_metadata(const struct zb_reader *reader,
                                 uint8_t *target,
                                 size_t capacity,
                                 size_t *size,
                                 struct zb_error **error);

/**
 * Frames read so far. From any thread.
 */
uint64_t zb_reader_frames_read(const struct zb_reader *reader);

/**
 * Bytes of data (without headers) read so far. From any thread.
 */
uint64_t zb_reader_bytes_read(const struct zb_reader *reader);

/**
 * The buffer's name; valid until the reader is freed.
 */
const char *zb_reader_name(const struct zb_reader *reader);

/**
 * Makes the reader's call that is blocked now, or else the next one that may block, fail once with `ZB_ERROR_INTERRUPTED`.
 * From any thread.
 */
void zb_reader_interrupt(const struct zb_reader *reader);

/**
 * Withdraws an interrupt that no call has met yet. From any thread.
 */
void zb_reader_clear_interrupt(const struct zb_reader *reader);

/**
 * Returns an interrupt that may outlive the reader; NULL for NULL. Free it with `zb_interrupt_free`.
 */
struct zb_interrupt *zb_reader_interrupt_handle(const struct zb_reader *reader);

/**
 * Closes the reader and removes the buffer's names. Any thread may call it: a blocked call fails with
 * `CLOSED`, and so does every later call. Frames that are held or lent stay valid. The handle must still be
 * freed. A second close does nothing. If a callback of one of the reader's own calls closes it, that call
 * closes it when it ends.
 */
zb_status zb_reader_close(const struct zb_reader *reader, struct zb_error **error);

/**
 * Closes the reader, if it is not closed, and frees it. NULL is fine.
 */
void zb_reader_free(struct zb_reader *reader);

/**
 * Lends `size` bytes for the answer, to be filled and committed. `data` gets the first of them; their content is undefined.
 *
 * They are bytes of the response buffer where one thread runs all handlers and no answer is deferred; this then waits for
 * space for as long as the client lives. Elsewhere they are memory of the process, which the commit copies. They belong to the
 * handler until it commits or discards them, or returns. A handler that acquires bytes and then neither commits nor answers
 * otherwise fails its request.
 *
 * Errors: `FRAME_TOO_LARGE` if the response buffer is too small; `OUT_OF_MEMORY`; `INVALID_STATE` if the request has been
 * answered, failed or deferred, bytes are acquired already, or the server is a mutable one.
 */
zb_status zb_responder_acquire(struct zb_responder *responder,
                               size_t size,
                               uint8_t **data,
                               struct zb_error **error);

/**
 * Answers the request with the first `size` bytes acquired; `ZB_WHOLE_FRAME` stands for all of them, and 0 answers with no
 * bytes. The server's error callback gets an error of sending.
 *
 * Errors: `INVALID_STATE` if nothing is acquired; `INVALID_FRAME_SIZE` if fewer bytes are (they stay acquired).
 */
zb_status zb_responder_commit(struct zb_responder *responder,
                              size_t size,
                              struct zb_error **error);

/**
 * Discards the bytes acquired, if any. The handler may acquire others, or answer by `zb_responder_reply`.
 */
void zb_responder_discard(struct zb_responder *responder);

/**
 * Creates the request buffer of `channel` and its server, whose handler reads each request and answers with
 * its own bytes. `config` may be NULL for all defaults. Free it with `zb_server_free`.
 *
 * Errors: those of `zb_reader_create`.
 */
zb_status zb_server_create_immutable(const char *channel,
                                     const struct zb_config *config,
                                     struct zb_server **server,
                                     struct zb_error **error);

/**
 * Like `zb_server_create_immutable`, for a name of `length` bytes that need not end with a zero byte, and in which a zero byte is refused.
 */
zb_status zb_server_create_immutable_n(const char *channel,
                                       size_t length,
                                       const struct zb_config *config,
                                       struct zb_server **server,
                                       struct zb_error **error);

/**
 * Like `zb_server_create_immutable`, for a server whose handler changes each request in place.
 */
zb_status zb_server_create_mutable(const char *channel,
                                   const struct zb_config *config,
                                   struct zb_server **server,
                                   struct zb_error **error);

/**
 * Like `zb_server_create_mutable`, for a name of `length` bytes that need not end with a zero byte, and in which a zero byte is refused.
 */
zb_status zb_server_create_mutable_n(const char *channel,
                                     size_t length,
                                     const struct zb_config *config,
                                     struct zb_server **server,
                                     struct zb_error **error);

/**
 * Starts processing, on threads of the server, and returns at once. `destroy`, which may be NULL, is called
 * with `user_data` when the handler is not used any more, or when this function fails.
 *
 * Errors: `INVALID_STATE` if it runs, or is a mutable server; `SYSTEM`; after a stop, those of
 * `zb_reader_create`.
 */
zb_status zb_server_start(const struct zb_server *server,
                          zb_handler handler,
                          zb_processing_mode mode,
                          void *user_data,
                          zb_destroy destroy,
                          struct zb_error **error);

/**
 * Like `zb_server_start`, for a mutable server.
 */
zb_status zb_server_start_mutable(const struct zb_server *server,
                                  zb_mutable_handler handler,
                                  zb_processing_mode mode,
                                  void *user_data,
                                  zb_destroy destroy,
                                  struct zb_error **error);

/**
 * Answers the request with a copy of `data`, made at once in the response buffer; the caller may free the
 * bytes when this returns. The server's error callback gets an error of sending.
 *
 * Errors: `INVALID_STATE` if the request has been answered or failed, bytes are acquired for its answer, or the server is a
 * mutable one.
 */
zb_status zb_responder_reply(struct zb_responder *responder,
                             const uint8_t *data,
                             size_t size,
                             struct zb_error **error);

/**
 * Fails this request only: the client gets `REQUEST_FAILED` with this message. Bytes that are not UTF-8 are
 * replaced. After a reply it has no effect on the client, but the server's error callback gets the error.
 */
void zb_responder_fail(struct zb_responder *responder, const char *message);

/**
 * Sets a function that is called when a handler fails, an answer cannot be sent, a client dies, or the request
 * buffer had to be created again. Before or during a run. `destroy`, which may be NULL, is called with `user_data` when
 * the callback is not used any more.
 */
zb_status zb_server_on_error(const struct zb_server *server,
                             zb_error_callback callback,
                             void *user_data,
                             zb_destroy destroy,
                             struct zb_error **error);

/**
 * Sets a function that is called with the metadata of each client that sets some. Before or during a run.
 * `destroy`, which may be NULL, is called with `user_data` when the callback is not used any more.
 */
zb_status zb_server_on_init(const struct zb_server *server,
                            zb_init_callback callback,
                            void *user_data,
                            zb_destroy destroy,
                            struct zb_error **error);

/**
 * Sets the number of threads of `ZB_THREAD_POOL`, for the next start: 1 to 1024, where 0 counts as 1. If it is never set there is
 * one thread for each processor, and two at least.
 *
 * Errors: `INVALID_CONFIG` for more than 1024.
 */
zb_status zb_server_set_pool_size(const struct zb_server *server,
                                  size_t threads,
                                  struct zb_error **error);

/**
 * Stops the server: clients learn of it at once, and both buffers' names are free. It can be started again.
 *
 * Errors: `HANDLER_BUSY` if a handler is still running after 80 ms. `zb_frame_is_cancelled` tells the
 * handler, and its answer is dropped. When it returns, its thread ends and its user data is destroyed.
 */
zb_status zb_server_stop(const struct zb_server *server, struct zb_error **error);

/**
 * Waits up to `timeout_ms` until the server no longer runs, and its handlers have ended: another thread has stopped it, or it has
 * ended by itself (the error callback is told why). `ZB_OK` if that is so, at once if it was not started; `ZB_TIMEOUT` if not, at
 * once on a thread of the server, which cannot wait for itself.
 */
zb_status zb_server_wait(const struct zb_server *server,
                         int64_t timeout_ms,
                         struct zb_error **error);

/**
 * Whether requests are being processed; false for NULL.
 */
bool zb_server_is_running(const struct zb_server *server);

/**
 * The channel's name; valid until the server is freed.
 */
const char *zb_server_channel(const struct zb_server *server);

/**
 * Stops the server, if it runs, and frees it. No other thread may be using it. NULL is fine.
 */
void zb_server_free(struct zb_server *server);

/**
 * Creates the buffer `name` for a reader that comes later, connects to it, and offers it the payload of `source`: a writer in all
 * else. `config` and `options` may be NULL for all defaults. Free it with `zb_writer_free`.
 *
 * The buffer is at least as large as the one of `source`, so that it can hold each of its frames as a copy, and a reader whose
 * config asks for less takes it over all the same. Both sides share, whatever `config` and `options` say about that. If no reader
 * has taken the buffer over when the writer is closed, it is removed.
 *
 * Errors: those of `zb_kept_buffer_create` and `zb_writer_connect`; `CLOSED`, `INVALID_STATE` of the source.
 */
zb_status zb_shared_writer_create(const char *name,
                                  const struct zb_reader *source,
                                  const struct zb_config *config,
                                  const struct zb_writer_options *options,
                                  struct zb_writer **writer,
                                  struct zb_error **error);

/**
 * Like `zb_shared_writer_create`, for a name of `length` bytes that need not end with a zero byte, and in which a zero byte is
 * refused.
 */
zb_status zb_shared_writer_create_n(const char *name,
                                    size_t length,
                                    const struct zb_reader *source,
                                    const struct zb_config *config,
                                    const struct zb_writer_options *options,
                                    struct zb_writer **writer,
                                    struct zb_error **error);

/**
 * Whether a reader has taken over the buffer that `zb_shared_writer_create` made; true for any other writer.
 *
 * Errors: `CLOSED`, `INVALID_STATE`.
 */
zb_status zb_writer_is_adopted(const struct zb_writer *writer, bool *adopted, struct zb_error **error);

/**
 * Passes a frame on that any reader of this process has read, waiting for space up to the write time-out: by a reference to its
 * bytes where both readers allow sharing and the writer requests it, else by a copy. `shared`, which may be NULL, gets whether
 * the next reader looks at the bytes where they are.
 *
 * Releases the frame, unless the call fails: then it stays with the caller. A frame that is lent keeps its place in its
 * ring until the next reader has released it, too.
 *
 * Errors: those of `zb_writer_write_frame`; `INVALID_ARGUMENT` if the frame is empty, or is not one of a `zb_reader`.
 */
zb_status zb_writer_forward(const struct zb_writer *writer,
                            struct zb_frame *frame,
                            bool *shared,
                            struct zb_error **error);

/**
 * Like `zb_writer_forward`, for a frame that goes to several writers: it stays with the caller, who releases it.
 */
zb_status zb_writer_forward_to(const struct zb_writer *writer,
                               const struct zb_frame *frame,
                               bool *shared,
                               struct zb_error **error);

/**
 * Like `zb_writer_forward`, for the frame that `reader` lends: takes it from there as `zb_reader_keep_frame_ref` does. If the
 * call fails `*frame` gets it, to be passed on later or released; else `*frame` is empty.
 *
 * Errors: those of `zb_writer_forward` and `zb_reader_keep_frame_ref`.
 */
zb_status zb_writer_forward_ref(const struct zb_writer *writer,
                                const struct zb_reader *reader,
                                struct zb_frame *frame,
                                bool *shared,
                                struct zb_error **error);

/**
 * The first of the frame's bytes, to be changed in place before the frame is passed on. The writer that wrote it never learns of it.
 *
 * Errors: `INVALID_STATE` if others may look at the bytes: the frame is lent already, or is a shared one itself
 * (`zb_frame_is_shared`); `INVALID_ARGUMENT` if the frame is empty, or is not one of a `zb_reader`.
 */
zb_status zb_frame_make_mut(struct zb_frame *frame,
                            uint8_t **data,
                            struct zb_error **error);

/**
 * Like `zb_frame_make_mut`, but returns a private copy if others may look at the bytes: the frame has the copy from then on, with
 * another `data`, and is passed on by a copy. The bytes as they were before stay until the frame is released.
 *
 * Errors: `INVALID_STATE` in a forked child; `INVALID_ARGUMENT` if the frame is empty, or is not one of a `zb_reader`.
 */
zb_status zb_frame_to_mut(struct zb_frame *frame,
                          uint8_t **data,
                          struct zb_error **error);

/**
 * Whether the frame's bytes lie in another reader's buffer, which has lent them. They are read-only, and keep their place there,
 * so release the frame soon. False for an empty frame and for one that no `zb_reader` has read.
 */
bool zb_frame_is_shared(const struct zb_frame *frame);

/**
 * Tells what a reader shares.
 *
 * Errors: `CLOSED`, `INVALID_STATE`.
 */
zb_status zb_reader_payload_sharing(const struct zb_reader *reader,
                                    struct zb_payload_sharing *sharing,
                                    struct zb_error **error);

/**
 * Tells what a writer shares.
 *
 * Errors: `CLOSED`, `INVALID_STATE`.
 */
zb_status zb_writer_payload_sharing(const struct zb_writer *writer,
                                    struct zb_payload_sharing *sharing,
                                    struct zb_error **error);

/**
 * Whether the frame that the reader lends lies in another reader's buffer, as `zb_frame_is_shared` tells of an owned one. False if
 * no frame is lent. The loan continues.
 *
 * Errors: `CLOSED`, `INVALID_STATE`.
 */
zb_status zb_reader_is_frame_ref_shared(const struct zb_reader *reader,
                                        bool *shared,
                                        struct zb_error **error);

/**
 * Fills `*stats`, whose `size` the caller has set. Frames and bytes are as of the last call that read; the others are as of now.
 * From any thread, during any call of the reader.
 *
 * Errors: `CLOSED`; `INVALID_STATE` in a forked child; `INVALID_ARGUMENT` if `size` is less than its own size.
 */
zb_status zb_reader_get_stats(const struct zb_reader *reader,
                              struct zb_reader_stats *stats,
                              struct zb_error **error);

/**
 * Tells how many bytes of the reader's buffer this process has mapped by huge pages now: what `zb_config_set_huge_pages` got.
 *
 * Errors: `CLOSED`, `INVALID_STATE`; `SYSTEM` where the system does not tell.
 */
zb_status zb_reader_get_huge_page_bytes(const struct zb_reader *reader,
                                        uint64_t *bytes,
                                        struct zb_error **error);

/**
 * Fills `*stats`, whose `size` the caller has set. Frames and bytes are as of the last call that wrote; the others are as of
 * now. From any thread, during any call of the writer.
 *
 * Errors: `CLOSED`; `INVALID_STATE` in a forked child; `INVALID_ARGUMENT` if `size` is less than its own size.
 */
zb_status zb_writer_get_stats(const struct zb_writer *writer,
                              struct zb_writer_stats *stats,
                              struct zb_error **error);

/**
 * Like `zb_reader_read_frame_ref`, if the next frame is known to be there and reading it is a matter of a few loads and stores: true, and
 * a frame. False tells nothing, neither of a frame nor of an error: call `zb_reader_read_frame_ref`. The loan of the last frame may have
 * ended then.
 *
 * The function takes no lock, makes no system call, calls nothing back and logs nothing, so that a runtime with a garbage collector may
 * call it as if it were its own code (C#: `SuppressGCTransition`).
 *
 * `due`, which may be NULL, gets whether the writer may need the frame's bytes as soon as they go back. If not, the release may be
 * left to the reader's next call that ends the loan: it would only note that the bytes may go back.
 */
bool zb_reader_take_frame_ref(const struct zb_reader *reader,
                              struct zb_frame_ref *frame,
                              bool *due);

/**
 * Makes a tee without outputs of what `reader` reads. The tee takes the reader over: the handle is as good as closed afterwards, and
 * must still be freed. A frame that it has lent goes back. Free the tee with `zb_tee_free`.
 *
 * Errors: `CLOSED`, `INVALID_STATE`.
 */
zb_status zb_tee_create(const struct zb_reader *reader,
                        struct zb_tee **tee,
                        struct zb_error **error);

/**
 * Adds an output that gets every frame from the next one on. How long the tee waits for space in it is the writer's write time-out.
 * The tee takes the writer over: the handle is as good as closed afterwards, and must still be freed. A frame that is acquired is
 * discarded. The output takes the place of one of that name that has ended.
 *
 * Errors: `CLOSED`, `INVALID_STATE`.
 */
zb_status zb_tee_add_block_output(const struct zb_tee *tee,
                                  const struct zb_writer *writer,
                                  struct zb_error **error);

/**
 * Adds an output that has at most `frames` frames (at least one; usually 2) that its reader has not given back. What comes then is
 * dropped. In all else like `zb_tee_add_block_output`.
 */
zb_status zb_tee_add_drop_output(const struct zb_tee *tee,
                                 const struct zb_writer *writer,
                                 size_t frames,
                                 struct zb_error **error);

/**
 * Closes the output that writes the buffer `name`. `removed`, which may be NULL, gets whether there was one. What it got stays with
 * its reader.
 *
 * Errors: `CLOSED`, `INVALID_STATE`.
 */
zb_status zb_tee_remove_output(const struct zb_tee *tee,
                               const char *name,
                               bool *removed,
                               struct zb_error **error);

/**
 * Like `zb_tee_remove_output`, for a name of `length` bytes that need not end with a zero byte.
 */
zb_status zb_tee_remove_output_n(const struct zb_tee *tee,
                                 const char *name,
                                 size_t length,
                                 bool *removed,
                                 struct zb_error **error);

/**
 * Waits up to `timeout_ms` for a frame, and passes it on: `ZB_OK`, or `ZB_TIMEOUT`, or `ZB_END_OF_STREAM` when the writer has closed,
 * or an error. 0 polls once, a negative time-out waits without limit.
 *
 * Errors: those of `zb_reader_read_frame` and of `zb_tee_forward`; the error object names the buffer.
 */
zb_status zb_tee_step(const struct zb_tee *tee,
                      int64_t timeout_ms,
                      struct zb_error **error);

/**
 * Passes frames on until their writer closes: `ZB_END_OF_STREAM`, or an error. After the error of an output a further call goes on.
 *
 * Errors: those of `zb_tee_step`.
 */
zb_status zb_tee_run(const struct zb_tee *tee,
                     struct zb_error **error);

/**
 * Waits up to `timeout_ms` for a frame, for a program that looks at it or changes it (`zb_frame_make_mut`) before it passes it on
 * (`zb_tee_forward`): `ZB_OK` and a frame, or `ZB_TIMEOUT`, or `ZB_END_OF_STREAM`, or an error, and an empty frame. Frames that a full
 * output has kept back go first.
 *
 * Errors: those of `zb_tee_step`.
 */
zb_status zb_tee_read_frame(const struct zb_tee *tee,
                            int64_t timeout_ms,
                            struct zb_frame *frame,
                            struct zb_error **error);

/**
 * Passes a frame on to all outputs, which any reader of this process has read. The tee takes the frame, and `*frame` is empty
 * afterwards, unless the error is `INVALID_ARGUMENT`, `CLOSED` or `INVALID_STATE`.
 *
 * Errors: of a block output, whose buffer the error object names. `BUFFER_FULL`, `OUT_OF_MEMORY`, `INTERRUPTED`: the outputs from that
 * one on have still to get the frame, and the next call goes on there. `FRAME_TOO_LARGE`: that output does without the frame. All else,
 * as `READER_DEAD`: that output has ended; the others have got the frame. `INVALID_ARGUMENT` if the frame is empty, or is not one of
 * a `zb_reader` or a `zb_tee`.
 */
zb_status zb_tee_forward(const struct zb_tee *tee,
                         struct zb_frame *frame,
                         struct zb_error **error);

/**
 * Goes on with a frame that an output has kept back; without one it does nothing.
 *
 * Errors: those of `zb_tee_forward`.
 */
zb_status zb_tee_flush(const struct zb_tee *tee, struct zb_error **error);

/**
 * Copies what is known of up to `capacity` outputs, also of those that have ended, to `outputs`, in the order in which they were added,
 * and sets `*count` to the number of all of them. `outputs` may be NULL if `capacity` is 0.
 *
 * Errors: `CLOSED`, `INVALID_STATE`.
 */
zb_status zb_tee_outputs(const struct zb_tee *tee,
                         struct zb_tee_output *outputs,
                         size_t capacity,
                         size_t *count,
                         struct zb_error **error);

/**
 * Name of the buffer that the tee reads. Freed with the tee. From any thread.
 */
const char *zb_tee_name(const struct zb_tee *tee);

/**
 * Makes the tee's call that is blocked now, or else the next one that may block, fail once with `ZB_ERROR_INTERRUPTED`, whether it waits for
 * a frame or for space in an output. From any thread.
 */
void zb_tee_interrupt(const struct zb_tee *tee);

/**
 * Closes the tee: its reader and its outputs. Any thread may call it: a blocked call fails with `CLOSED`, and so does every later call.
 * The handle must still be freed. A second close does nothing.
 */
zb_status zb_tee_close(const struct zb_tee *tee,
                       struct zb_error **error);

/**
 * Closes the tee, if it is not closed, and frees it. NULL is fine.
 */
void zb_tee_free(struct zb_tee *tee);

/**
 * The ABI version of the loaded library: major * 65536 + minor.
 *
 * A program can use a library whose major version is that of its header, and whose minor version is not less.
 */
uint32_t zb_abi_version(void);

/**
 * The version of the library as text, such as "2.0.0". Never freed.
 */
const char *zb_version(void);

/**
 * Connects to the buffer `name`. `options` may be NULL for all defaults. Free it with `zb_writer_free`.
 *
 * Errors: `BUFFER_NOT_FOUND`, `WRITER_ALREADY_CONNECTED`, `READER_DEAD`, `INVALID_NAME`, `INCOMPATIBLE_PROTOCOL`,
 * `CORRUPT_BUFFER`, `PERMISSION_DENIED`.
 */
zb_status zb_writer_connect(const char *name,
                            const struct zb_writer_options *options,
                            struct zb_writer **writer,
                            struct zb_error **error);

/**
 * Like `zb_writer_connect`, for a name of `length` bytes that need not end with a zero byte, and in which a zero byte is refused.
 */
zb_status zb_writer_connect_n(const char *name,
                              size_t length,
                              const struct zb_writer_options *options,
                              struct zb_writer **writer,
                              struct zb_error **error);

/**
 * Copies `data` into the buffer as one frame, waiting for space up to the write time-out. `sequence`, which may be NULL,
 * gets its number.
 *
 * Errors: `INVALID_FRAME_SIZE` (0 bytes), `FRAME_TOO_LARGE`, `BUFFER_FULL`, `READER_DEAD`, `INVALID_STATE`, `INTERRUPTED`,
 * `OUT_OF_MEMORY`, `CORRUPT_BUFFER`, `CLOSED`.
 */
zb_status zb_writer_write_frame(const struct zb_writer *writer,
                                const uint8_t *data,
                                size_t size,
                                uint64_t *sequence,
                                struct zb_error **error);

/**
 * Like `zb_writer_write_frame`, but waits for space up to `timeout_ms` instead of the write time-out.
 */
zb_status zb_writer_write_frame_within(const struct zb_writer *writer,
                                       const uint8_t *data,
                                       size_t size,
                                       int64_t timeout_ms,
                                       uint64_t *sequence,
                                       struct zb_error **error);

/**
 * Like `zb_writer_write_frame`, but does not wait: `ZB_TIMEOUT` if there is no space now.
 */
zb_status zb_writer_try_write_frame(const struct zb_writer *writer,
                                    const uint8_t *data,
                                    size_t size,
                                    uint64_t *sequence,
                                    struct zb_error **error);

/**
 * Writes `count` frames and wakes the reader once, waiting for space for each. `written`, which may be NULL,
 * gets the number of frames written, even if one fails.
 *
 * Errors: those of `zb_writer_write_frame`.
 */
zb_status zb_writer_write_frames(const struct zb_writer *writer,
                                 const struct zb_bytes *frames,
                                 size_t count,
                                 size_t *written,
                                 struct zb_error **error);

/**
 * Acquires `size` bytes of the buffer, to be filled in place: `*data` gets the address of the first byte.
 * Waits for space up to the write time-out. Call `zb_writer_commit_frame` or `zb_writer_discard_frame`
 * afterwards. These calls, and closing, end the right to write there.
 *
 * Errors: those of `zb_writer_write_frame`; `INVALID_STATE` if a frame is acquired already.
 */
zb_status zb_writer_acquire_frame_buffer(const struct zb_writer *writer,
                                         size_t size,
                                         uint8_t **data,
                                         struct zb_error **error);

/**
 * Like `zb_writer_acquire_frame_buffer`, but waits for space up to `timeout_ms` instead of the write time-out.
 */
zb_status zb_writer_acquire_frame_buffer_within(const struct zb_writer *writer,
                                                size_t size,
                                                int64_t timeout_ms,
                                                uint8_t **data,
                                                struct zb_error **error);

/**
 * Like `zb_writer_acquire_frame_buffer`, but does not wait: `ZB_TIMEOUT` if there is no space now.
 */
zb_status zb_writer_try_acquire_frame_buffer(const struct zb_writer *writer,
                                             size_t size,
                                             uint8_t **data,
                                             struct zb_error **error);

/**
 * Commits the first `size` bytes of the frame acquired, or all of them (`ZB_WHOLE_FRAME`). `sequence`, which may be NULL, gets
 * its number.
 *
 * Errors: `INVALID_STATE` if nothing is acquired; `INVALID_FRAME_SIZE` if `size` is 0 or more than was acquired (the frame
 * stays acquired); `CORRUPT_BUFFER`, `CLOSED`.
 */
zb_status zb_writer_commit_frame(const struct zb_writer *writer,
                                 size_t size,
                                 uint64_t *sequence,
                                 struct zb_error **error);

/**
 * Discards the acquired frame, if any. The reader never sees it.
 */
zb_status zb_writer_discard_frame(const struct zb_writer *writer, struct zb_error **error);

/**
 * A guard that keeps the buffer's memory mapped when the writer is closed or freed. Bytes that are written
 * there after a commit are lost, or damage a later frame. Free it with `zb_memory_guard_free`.
 */
zb_status zb_writer_memory_guard(const struct zb_writer *writer,
                                 struct zb_memory_guard **guard,
                                 struct zb_error **error);

/**
 * Frees a guard. NULL is fine.
 */
void zb_memory_guard_free(struct zb_memory_guard *guard);

/**
 * Sets the buffer's metadata: at most once per buffer, and at most its metadata size less 8 bytes.
 *
 * Errors: `METADATA_ALREADY_WRITTEN`, `METADATA_TOO_LARGE`, `INVALID_STATE`, `CLOSED`.
 */
zb_status zb_writer_set_metadata(const struct zb_writer *writer,
                                 const uint8_t *data,
                                 size_t size,
                                 struct zb_error **error);

/**
 * Whether the reader lives. Any thread may call it, during any call of the writer.
 *
 * Errors: `CLOSED`; `INVALID_STATE` in a forked child.
 */
zb_status zb_writer_is_reader_connected(const struct zb_writer *writer,
                                        bool *connected,
                                        struct zb_error **error);

/**
 * The largest frame that the buffer can take, in bytes.
 */
zb_status zb_writer_max_frame_size(const struct zb_writer *writer, size_t *size, struct zb_error **error);

/**
 * Sets how long a write waits for space, in milliseconds: 0 polls once, a negative number waits without
 * limit.
 */
zb_status zb_writer_set_write_timeout(const struct zb_writer *writer,
                                      int64_t timeout_ms,
                                      struct zb_error **error);

/**
 * How long a write waits for space, in milliseconds. From any thread.
 */
int64_t zb_writer_write_timeout(const struct zb_writer *writer);

/**
 * Frames committed so far. From any thread.
 */
uint64_t zb_writer_frames_written(const struct zb_writer *writer);

/**
 * Bytes of data (without headers) committed so far. From any thread.
 */
uint64_t zb_writer_bytes_written(const struct zb_writer *writer);

/**
 * The buffer's name; valid until the writer is freed.
 */
const char *zb_writer_name(const struct zb_writer *writer);

/**
 * Makes the writer's call that is blocked now, or else the next one that may block, fail once with `ZB_ERROR_INTERRUPTED`.
 * From any thread.
 */
void zb_writer_interrupt(const struct zb_writer *writer);

/**
 * Withdraws an interrupt that no call has met yet. From any thread.
 */
void zb_writer_clear_interrupt(const struct zb_writer *writer);

/**
 * Returns an interrupt that may outlive the writer; NULL for NULL. Free it with `zb_interrupt_free`.
 */
struct zb_interrupt *zb_writer_interrupt_handle(const struct zb_writer *writer);

/**
 * Closes the writer: the reader gets all frames, then the end of the stream at once. Any thread may call it:
 * a blocked call fails with `CLOSED`, and so does every later call. The handle must still be freed. A second
 * close does nothing. If a callback of one of the writer's own calls closes it, that call closes it when it
 * ends.
 */
zb_status zb_writer_close(const struct zb_writer *writer, struct zb_error **error);

/**
 * Closes the writer, if it is not closed, and frees it. NULL is fine.
 */
void zb_writer_free(struct zb_writer *writer);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* ZEROBUFFER_C_H */
