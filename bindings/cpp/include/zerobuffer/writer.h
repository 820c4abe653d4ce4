/**
 * @file
 * The writing side of a buffer.
 */
#ifndef ZEROBUFFER_WRITER_H
#define ZEROBUFFER_WRITER_H

#include <zerobuffer/awaitable.h>
#include <zerobuffer/config.h>
#include <zerobuffer/frame.h>
#include <zerobuffer/interrupt.h>
#include <zerobuffer/version.h>

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace zerobuffer {

/** What a writer has done so far. */
struct WriterStats {
    /** Frames written. */
    std::uint64_t frames_written = 0;
    /** Bytes of data written, without headers. */
    std::uint64_t bytes_written = 0;
    /** How often a call found no space and began to wait for some. */
    std::uint64_t waits = 0;
    /** How often a call found no space in time. */
    std::uint64_t full = 0;
    /** Frames that were forwarded without a copy. */
    std::uint64_t frames_shared = 0;
    /** Frames that were forwarded by a copy. */
    std::uint64_t frames_copied = 0;
};

/**
 * The writing side of a buffer. Destroying it closes it.
 *
 * One thread at a time may use it; a second one gets invalid_state_exception. Any thread may call
 * interrupt(), clear_interrupt(), close(), is_reader_connected(), name(), write_timeout() and the counters at
 * any time. It moves and does not copy; a moved-from writer may only be assigned to or destroyed.
 */
class Writer {
public:
    /**
     * Connects to a buffer that a reader has created.
     *
     * @throws buffer_not_found_exception if there is none
     * @throws writer_already_connected_exception if another live writer is connected
     * @throws reader_dead_exception, invalid_name_exception, incompatible_protocol_exception, corrupt_buffer_exception
     * @throws permission_denied_exception
     */
    explicit Writer(const std::string& name, const WriterOptions& options = WriterOptions()) {
        detail::check_abi();
        zb_writer* writer = nullptr;
        detail::call(zb_writer_connect_n, name.data(), name.size(), static_cast<const zb_writer_options*>(options.to_c().get()), &writer);
        writer_.reset(writer);
    }

    /** Connects as Writer(const std::string&, const WriterOptions&), and requests payload sharing if the bool says so. */
    template <std::same_as<bool> Bool>
    Writer(const std::string& name, Bool request_payload_sharing)
        : Writer(name, WriterOptions().set_request_payload_sharing(request_payload_sharing)) {}

    /** The buffer's name. */
    [[nodiscard]] const char* name() const noexcept { return zb_writer_name(writer_.get()); }

    /**
     * Copies the bytes into the buffer as one frame, waiting for space up to the write time-out. Returns its sequence number.
     *
     * @throws buffer_full_exception if no space became free in time
     * @throws frame_too_large_exception, invalid_frame_size_exception (0 bytes)
     * @throws reader_dead_exception, interrupted_exception, out_of_memory_exception, corrupt_buffer_exception
     * @throws invalid_state_exception while a frame is acquired; closed_exception
     */
    std::uint64_t write_frame(const void* data, std::size_t size) {
        std::uint64_t sequence = 0;
        detail::Error error;
        error.check(zb_writer_write_frame(writer_.get(), static_cast<const std::uint8_t*>(data), size, &sequence, error.out()));
        return sequence;
    }

    /** As write_frame(const void*, std::size_t). */
    std::uint64_t write_frame(std::span<const std::uint8_t> data) { return write_frame(data.data(), data.size()); }

    /** As write_frame(const void*, std::size_t). */
    std::uint64_t write_frame(std::span<const std::byte> data) { return write_frame(data.data(), data.size()); }

    /** As write_frame(const void*, std::size_t), for text; without a zero byte at its end. */
    std::uint64_t write_frame(std::string_view text) { return write_frame(text.data(), text.size()); }

    /** Like write_frame(), but waits for space up to `timeout_ms` instead of the write time-out. */
    std::uint64_t write_frame_within(const void* data, std::size_t size, timeout_t timeout_ms) {
        std::uint64_t sequence = 0;
        detail::call(zb_writer_write_frame_within, static_cast<const zb_writer*>(writer_.get()),
                     static_cast<const std::uint8_t*>(data), size, timeout_ms, &sequence);
        return sequence;
    }

    /** As write_frame_within(const void*, std::size_t, timeout_t). */
    std::uint64_t write_frame_within(const void* data, std::size_t size, std::chrono::milliseconds timeout) {
        return write_frame_within(data, size, timeout_t{timeout.count()});
    }

    /** Like write_frame(), but does not wait: returns no value if there is no space now. */
    std::optional<std::uint64_t> try_write_frame(const void* data, std::size_t size) {
        std::uint64_t sequence = 0;
        detail::Error error;
        const zb_status status = error.check(zb_writer_try_write_frame(
            writer_.get(), static_cast<const std::uint8_t*>(data), size, &sequence, error.out()));
        return status == ZB_OK ? std::optional(sequence) : std::nullopt;
    }

    /** As try_write_frame(const void*, std::size_t). */
    std::optional<std::uint64_t> try_write_frame(std::span<const std::uint8_t> data) {
        return try_write_frame(data.data(), data.size());
    }

    /** As try_write_frame(const void*, std::size_t). */
    std::optional<std::uint64_t> try_write_frame(std::span<const std::byte> data) {
        return try_write_frame(data.data(), data.size());
    }

    /** As try_write_frame(const void*, std::size_t), for text; without a zero byte at its end. */
    std::optional<std::uint64_t> try_write_frame(std::string_view text) { return try_write_frame(text.data(), text.size()); }

    /**
     * Writes each item as a frame, waiting for space for each up to the write time-out, and wakes the reader
     * once. Returns how many were written. Throws like write_frame() at the first frame that fails. The
     * frames before it are written, and frames_written() counts them.
     */
    std::size_t write_frames(std::span<const std::span<const std::uint8_t>> frames) {
        std::vector<zb_bytes> items;
        items.reserve(frames.size());
        for (const auto frame : frames) items.push_back({frame.data(), frame.size()});
        std::size_t written = 0;
        detail::call(zb_writer_write_frames, static_cast<const zb_writer*>(writer_.get()),
                     static_cast<const zb_bytes*>(items.data()), items.size(), &written);
        return written;
    }

    /**
     * Acquires bytes of the buffer, to be filled in place, and committed or discarded. Their initial content
     * is undefined. Waits for space up to the write time-out. The span is valid until the commit or discard,
     * or until the writer is closed or destroyed.
     *
     * Throws like write_frame(), and invalid_state_exception if a frame is acquired already.
     */
    [[nodiscard]] std::span<std::uint8_t> acquire_frame_buffer(std::size_t size) {
        std::uint8_t* data = nullptr;
        detail::Error error;
        error.check(zb_writer_acquire_frame_buffer(writer_.get(), size, &data, error.out()));
        return {data, size};
    }

    /** Like acquire_frame_buffer(), but waits for space up to `timeout_ms` instead of the write time-out. */
    [[nodiscard]] std::span<std::uint8_t> acquire_frame_buffer_within(std::size_t size, timeout_t timeout_ms) {
        std::uint8_t* data = nullptr;
        detail::call(zb_writer_acquire_frame_buffer_within, static_cast<const zb_writer*>(writer_.get()), size, timeout_ms, &data);
        return {data, size};
    }

    /** As acquire_frame_buffer_within(std::size_t, timeout_t). */
    [[nodiscard]] std::span<std::uint8_t> acquire_frame_buffer_within(std::size_t size, std::chrono::milliseconds timeout) {
        return acquire_frame_buffer_within(size, timeout_t{timeout.count()});
    }

    /** Like acquire_frame_buffer(), but does not wait: returns no value if there is no space now. */
    [[nodiscard]] std::optional<std::span<std::uint8_t>> try_acquire_frame_buffer(std::size_t size) {
        std::uint8_t* data = nullptr;
        detail::Error error;
        const zb_status status =
            error.check(zb_writer_try_acquire_frame_buffer(writer_.get(), size, &data, error.out()));
        if (status != ZB_OK) return std::nullopt;
        return std::span<std::uint8_t>(data, size);
    }

    /**
     * Commits the acquired frame. Returns its sequence number.
     *
     * @throws invalid_state_exception if nothing is acquired; corrupt_buffer_exception, closed_exception
     */
    std::uint64_t commit_frame() { return commit(ZB_WHOLE_FRAME); }

    /**
     * Commits the first `size` bytes of the acquired frame. Returns its sequence number.
     *
     * Throws like commit_frame(), and invalid_frame_size_exception if `size` is 0, negative or more than was
     * acquired (the frame stays acquired).
     */
    std::uint64_t commit_frame(std::size_t size) {
        // In the C ABI SIZE_MAX stands for the whole frame. A size of -1, which encoders return for a
        // failure, converts to that number.
        return commit(size == ZB_WHOLE_FRAME ? size - 1 : size);
    }

    /** Discards the acquired frame, if any. The reader never sees it. */
    void discard_frame() { detail::call(zb_writer_discard_frame, static_cast<const zb_writer*>(writer_.get())); }

    /**
     * Passes a frame on that a Reader of this process has read, waiting for space up to the write time-out: without a copy where
     * both readers allow payload sharing and this writer requests it, else by a copy. Returns whether the next reader
     * looks at the bytes where they are.
     *
     * Releases the frame. If it throws, the frame stays as it is. A frame that is lent keeps its place in its ring until the next
     * reader has released it, too.
     *
     * Throws like write_frame(), and invalid_argument_exception if the frame is invalid, or not one that a Reader has read.
     */
    bool forward(Frame&& frame) {  // NOLINT: it is released, or stays as it is
        bool shared = false;
        detail::call(zb_writer_forward, handle(), detail::FrameAccess::out(frame), &shared);
        return shared;
    }

    /** Like forward(), for a frame that goes to several writers: it stays as it is. */
    bool forward_to(const Frame& frame) {
        bool shared = false;
        detail::call(zb_writer_forward_to, handle(), detail::FrameAccess::in(frame), &shared);
        return shared;
    }

    /**
     * Sets the buffer's metadata: at most once per buffer, and at most its metadata size less 8 bytes.
     *
     * @throws metadata_already_written_exception, metadata_too_large_exception, closed_exception
     */
    void set_metadata(const void* data, std::size_t size) {
        detail::call(zb_writer_set_metadata, static_cast<const zb_writer*>(writer_.get()),
                     static_cast<const std::uint8_t*>(data), size);
    }

    /** As set_metadata(const void*, std::size_t). */
    void set_metadata(std::span<const std::uint8_t> data) { set_metadata(data.data(), data.size()); }

    /** As set_metadata(const void*, std::size_t), for text. */
    void set_metadata(std::string_view text) { set_metadata(text.data(), text.size()); }

    /** Whether the reader lives. */
    [[nodiscard]] bool is_reader_connected() const {
        bool connected = false;
        detail::call(zb_writer_is_reader_connected, static_cast<const zb_writer*>(writer_.get()), &connected);
        return connected;
    }

    /** Whether this writer requests payload sharing, and its reader allows it. */
    [[nodiscard]] bool payload_sharing_enabled() const { return sharing().enabled; }

    /** How many frames are lent through this writer now. A figure, which others may change at once. */
    [[nodiscard]] std::uint64_t payload_share_count() const { return sharing().share_count; }

    /** The process that lends frames through this buffer; 0 = none. A figure: a killed process leaves it. */
    [[nodiscard]] std::uint64_t payload_owner_pid() const { return sharing().owner_pid; }

    /**
     * A file descriptor for event loops, like Reader::native_handle(): ready to read when there may be space, or an end. Poll it for
     * reading, too. It stays ready until try_write_frame() or try_acquire_frame_buffer() finds no space.
     *
     * @throws system_exception if there is no file descriptor left, or no thread; invalid_state_exception, closed_exception
     */
    [[nodiscard]] int native_handle() const {
        int descriptor = -1;
        detail::call(zb_writer_fd, static_cast<const zb_writer*>(writer_.get()), &descriptor);
        return descriptor;
    }

    /** Calls `callback` once, as soon as there may be space, or an end; otherwise like Reader::notify(). */
    void notify(NotifyCallback callback) const {
        detail::notify(zb_writer_notify, static_cast<const zb_writer*>(writer_.get()), std::move(callback));
    }

    /** As Reader::cancel_notify(). */
    bool cancel_notify() const {
        bool waited = false;
        detail::call(zb_writer_cancel_notify, static_cast<const zb_writer*>(writer_.get()), &waited);
        return waited;
    }

#ifdef __cpp_impl_coroutine
    /**
     * For coroutines: writes the bytes as one frame as soon as there is space, and returns its sequence number. The bytes stay unchanged
     * until then. It has no time-out. See awaitable.h for `post`.
     *
     * Throws like try_write_frame() and native_handle().
     */
    template <typename Post>
    [[nodiscard]] auto write_frame_async(std::span<const std::uint8_t> data, Post post) {
        const auto look = [data](Writer& writer) { return writer.try_write_frame(data); };
        return detail::Search<Writer, decltype(look), Post>(*this, look, std::move(post));
    }

    /** As write_frame_async(std::span<const std::uint8_t>, Post), for text; without a zero byte at its end. */
    template <typename Post>
    [[nodiscard]] auto write_frame_async(std::string_view text, Post post) {
        return write_frame_async(std::span(reinterpret_cast<const std::uint8_t*>(text.data()), text.size()), std::move(post));
    }
#endif

    /** The largest frame that the buffer can take, in bytes. */
    [[nodiscard]] std::size_t max_frame_size() const {
        std::size_t size = 0;
        detail::call(zb_writer_max_frame_size, static_cast<const zb_writer*>(writer_.get()), &size);
        return size;
    }

    /** Sets how long a write waits for space, in milliseconds. */
    void set_write_timeout(timeout_t timeout_ms) {
        detail::call(zb_writer_set_write_timeout, static_cast<const zb_writer*>(writer_.get()), timeout_ms);
    }

    /** As set_write_timeout(timeout_t). */
    void set_write_timeout(std::chrono::milliseconds timeout) { set_write_timeout(timeout.count()); }

    /** How long a write waits for space, in milliseconds. */
    [[nodiscard]] timeout_t write_timeout() const noexcept { return zb_writer_write_timeout(writer_.get()); }

    /** Frames committed so far. */
    [[nodiscard]] std::uint64_t frames_written() const noexcept { return zb_writer_frames_written(writer_.get()); }

    /** Bytes of data (without headers) committed so far. */
    [[nodiscard]] std::uint64_t bytes_written() const noexcept { return zb_writer_bytes_written(writer_.get()); }

    /**
     * What the writer has done so far. From any thread.
     *
     * @throws closed_exception
     */
    [[nodiscard]] WriterStats stats() const {
        zb_writer_stats stats{};
        stats.size = sizeof stats;
        detail::call(zb_writer_get_stats, static_cast<const zb_writer*>(writer_.get()), &stats);
        return {stats.frames_written, stats.bytes_written, stats.waits, stats.full, stats.frames_shared, stats.frames_copied};
    }

    /** Makes the call that is blocked now, or else the next one that may block, throw interrupted_exception once. */
    void interrupt() const noexcept { zb_writer_interrupt(writer_.get()); }

    /** Withdraws an interrupt that no call has met yet. */
    void clear_interrupt() const noexcept { zb_writer_clear_interrupt(writer_.get()); }

    /** An interrupt that may outlive the writer. */
    [[nodiscard]] InterruptHandle interrupt_handle() const {
        return InterruptHandle(zb_writer_interrupt_handle(writer_.get()));
    }

    /** Closes the writer, even while another thread waits: the reader gets all frames, then the end of the stream. */
    void close() { detail::call(zb_writer_close, static_cast<const zb_writer*>(writer_.get())); }

protected:
    /** Takes a handle of the C ABI over. */
    explicit Writer(zb_writer* writer) noexcept : writer_(writer) {}

    /** The handle of the C ABI. */
    [[nodiscard]] const zb_writer* handle() const noexcept { return writer_.get(); }

private:
    friend class Tee;

    zb_payload_sharing sharing() const {
        zb_payload_sharing sharing{};
        detail::call(zb_writer_payload_sharing, static_cast<const zb_writer*>(writer_.get()), &sharing);
        return sharing;
    }

    std::uint64_t commit(std::size_t size) {
        std::uint64_t sequence = 0;
        detail::Error error;
        error.check(zb_writer_commit_frame(writer_.get(), size, &sequence, error.out()));
        return sequence;
    }

    detail::Owned<zb_writer, zb_writer_free> writer_;
};

}  // namespace zerobuffer

#endif
