/**
 * @file
 * The reading side of a buffer.
 */
#ifndef ZEROBUFFER_READER_H
#define ZEROBUFFER_READER_H

#include <zerobuffer/config.h>
#include <zerobuffer/frame.h>
#include <zerobuffer/interrupt.h>
#include <zerobuffer/version.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <string>
#include <utility>
#include <vector>

namespace zerobuffer {

/**
 * The reading side of a buffer: creates it, owns it, removes it when it is destroyed.
 *
 * Used by one thread at a time: a second one gets invalid_state_exception. interrupt(), clear_interrupt(), close(),
 * is_writer_connected() without a time-out, name() and the counters may be called from any thread at any time. Frames may go
 * anywhere, and outlive the reader. Move-only; a moved-from reader may only be assigned to or destroyed.
 */
class Reader {
public:
    /**
     * Creates the buffer and becomes its reader.
     *
     * Whatever a dead reader left under this name is removed first; a kept buffer is taken over, with the frames in it.
     *
     * @throws invalid_name_exception, invalid_config_exception
     * @throws reader_already_connected_exception if a live reader has the name
     * @throws out_of_memory_exception, permission_denied_exception, incompatible_protocol_exception
     */
    explicit Reader(const std::string& name, const BufferConfig& config = BufferConfig()) {
        detail::check_abi();
        zb_reader* reader = nullptr;
        detail::call(zb_reader_create_n, name.data(), name.size(), static_cast<const zb_config*>(config.to_c().get()), &reader);
        reader_.reset(reader);
    }

    /** The buffer's name. */
    [[nodiscard]] const char* name() const noexcept { return zb_reader_name(reader_.get()); }

    /**
     * Waits up to `timeout_ms` for the next frame: an invalid one when the time is over, and, once per writer, an invalid one with
     * Frame::end_of_stream() when the writer closed in good order and everything that it wrote has been read.
     *
     * @throws writer_dead_exception once, after everything that the dead writer had committed has been read
     * @throws sequence_error_exception, corrupt_buffer_exception (both stay: create the buffer anew)
     * @throws interrupted_exception, buffer_not_found_exception, closed_exception, invalid_state_exception
     */
    [[nodiscard]] Frame read_frame(timeout_t timeout_ms = default_timeout_ms) {
        Frame frame;
        if (tells_found(frame)) return frame;
        detail::Error error;
        finish(error.check(zb_reader_read_frame(reader_.get(), timeout_ms, detail::FrameAccess::out(frame), error.out())),
               frame);
        return frame;
    }

    /** As read_frame(timeout_t). */
    [[nodiscard]] Frame read_frame(std::chrono::milliseconds timeout) { return read_frame(timeout.count()); }

    /** The next frame if there is one now, else an invalid one; leaves interrupts alone. Throws as read_frame(). */
    [[nodiscard]] Frame try_read_frame() {
        Frame frame;
        if (tells_found(frame)) return frame;
        detail::Error error;
        finish(error.check(zb_reader_try_read_frame(reader_.get(), detail::FrameAccess::out(frame), error.out())), frame);
        return frame;
    }

    /**
     * Waits up to `timeout_ms` for a first frame, then appends it and those behind it, at most `max`, without waiting again.
     * Returns how many were appended: 0 when the time is over, and at the end of a stream, of which end_of_stream() then tells.
     * Throws as read_frame(), when there was no frame; what is found behind the frames is for the next call.
     */
    std::size_t read_frames(std::vector<Frame>& frames, std::size_t max, timeout_t timeout_ms = default_timeout_ms) {
        constexpr std::size_t at_once = 64;
        rethrow_found();
        end_ = end_ == End::found ? End::told : End::none;
        if (end_ == End::told) return 0;
        std::array<zb_frame, at_once> batch{};
        std::size_t total = 0;
        while (total < max) {
            const std::size_t wanted = std::min(max - total, at_once);
            if (frames.capacity() - frames.size() < wanted) frames.reserve(std::max(2 * frames.capacity(), frames.size() + wanted));
            std::size_t count = 0;
            try {
                const zb_status status =
                    detail::call(zb_reader_read_frames, static_cast<const zb_reader*>(reader_.get()), batch.data(), wanted,
                                 total == 0 ? timeout_ms : 0, &count);
                // The library tells it once.
                if (status == ZB_END_OF_STREAM) end_ = total == 0 ? End::told : End::found;
            } catch (const zerobuffer_exception&) {
                if (total == 0) throw;
                found_ = std::current_exception();
            }
            for (std::size_t index = 0; index < count; ++index) {
                *detail::FrameAccess::out(frames.emplace_back()) = batch[index];
            }
            total += count;
            if (count < wanted) break;
        }
        return total;
    }

    /** As read_frames(std::vector<Frame>&, std::size_t, timeout_t). */
    std::size_t read_frames(std::vector<Frame>& frames, std::size_t max, std::chrono::milliseconds timeout) {
        return read_frames(frames, max, timeout_t{timeout.count()});
    }

    /**
     * Whether the last read_frames(), which returned 0, found the end of a stream rather than nothing in time. It is for the thread
     * that reads. The next read waits for the next writer; if it is read_frame(), it tells of the end once more first.
     */
    [[nodiscard]] bool end_of_stream() const noexcept { return end_ == End::told; }

    /**
     * As read_frame(), but the reader lends the frame, for the tightest loops: no reference counting, one at a time. The frame is
     * good until the next call of this reader (other than name(), counters, get_metadata() and interrupts), until
     * release_frame_ref(), and until the reader is destroyed. It is given back by the next read. For the thread that uses the reader.
     *
     * Throws as read_frame().
     */
    [[nodiscard]] FrameRef read_frame_ref(timeout_t timeout_ms = default_timeout_ms) {
        FrameRef frame;
        if (tells_found(frame)) return frame;
        detail::Error error;
        finish(error.check(zb_reader_read_frame_ref(reader_.get(), timeout_ms, detail::FrameAccess::out(frame), error.out())),
               frame);
        return frame;
    }

    /** As read_frame_ref(timeout_t). */
    [[nodiscard]] FrameRef read_frame_ref(std::chrono::milliseconds timeout) { return read_frame_ref(timeout.count()); }

    /** Gives the frame back that is lent, if any, without reading the next one. */
    void release_frame_ref() { detail::call(zb_reader_release_frame_ref, static_cast<const zb_reader*>(reader_.get())); }

    /**
     * Makes an owned frame of the one that is lent, also when the reader has been closed.
     *
     * @throws invalid_state_exception if no frame is lent
     */
    [[nodiscard]] Frame keep_frame_ref() {
        Frame frame;
        detail::call(zb_reader_keep_frame_ref, static_cast<const zb_reader*>(reader_.get()), detail::FrameAccess::out(frame));
        return frame;
    }

    /** Gives a frame's bytes back; the frame is invalid then. The same as destroying it. */
    void release_frame(Frame& frame) noexcept { frame.release(); }

    /** As release_frame(Frame&). */
    void release_frame(Frame&& frame) noexcept { frame.release(); }

    /** Whether a writer lives, or frames that one committed are still unread. */
    [[nodiscard]] bool is_writer_connected() const {
        bool connected = false;
        detail::call(zb_reader_is_writer_connected, static_cast<const zb_reader*>(reader_.get()), &connected);
        return connected;
    }

    /**
     * Waits up to `timeout_ms` for a writer. Returns whether one is there (or was, and left frames).
     *
     * @throws interrupted_exception, buffer_not_found_exception, system_exception, closed_exception
     */
    [[nodiscard]] bool is_writer_connected(timeout_t timeout_ms) {
        return detail::call(zb_reader_wait_for_writer, static_cast<const zb_reader*>(reader_.get()), timeout_ms) == ZB_OK;
    }

    /** As is_writer_connected(timeout_t). */
    [[nodiscard]] bool is_writer_connected(std::chrono::milliseconds timeout) {
        return is_writer_connected(timeout_t{timeout.count()});
    }

    /**
     * The metadata; empty if the writer has set none yet.
     *
     * @throws corrupt_buffer_exception, closed_exception
     */
    [[nodiscard]] std::vector<std::uint8_t> get_metadata() const {
        std::size_t size = 0;
        const zb_reader* reader = reader_.get();
        detail::call(zb_reader_get_metadata, reader, static_cast<std::uint8_t*>(nullptr), std::size_t{0}, &size);
        std::vector<std::uint8_t> metadata(size);
        detail::call(zb_reader_get_metadata, reader, metadata.data(), metadata.size(), &size);
        // A next writer of a duplex channel may have replaced it.
        metadata.resize(std::min(size, metadata.size()));
        return metadata;
    }

    /** Frames read so far. */
    [[nodiscard]] std::uint64_t frames_read() const noexcept { return zb_reader_frames_read(reader_.get()); }

    /** Bytes of data (without headers) read so far. */
    [[nodiscard]] std::uint64_t bytes_read() const noexcept { return zb_reader_bytes_read(reader_.get()); }

    /** Makes the call that is blocked now, or else the next one that may block, throw interrupted_exception once. */
    void interrupt() const noexcept { zb_reader_interrupt(reader_.get()); }

    /** Takes back an interrupt that no call has met yet. */
    void clear_interrupt() const noexcept { zb_reader_clear_interrupt(reader_.get()); }

    /** An interrupt that may outlive the reader. */
    [[nodiscard]] InterruptHandle interrupt_handle() const {
        return InterruptHandle(zb_reader_interrupt_handle(reader_.get()));
    }

    /** Closes the reader and removes the buffer, whatever another thread waits for. Frames still held stay valid. */
    void close() { detail::call(zb_reader_close, static_cast<const zb_reader*>(reader_.get())); }

private:
    /** What read_frames() found behind the frames, or instead of them, that the library tells once. */
    enum class End : std::uint8_t { none, found, told };

    void rethrow_found() {
        if (found_) [[unlikely]]
            std::rethrow_exception(std::exchange(found_, nullptr));
    }

    /** Whether the frame tells of what read_frames() found. */
    bool tells_found(auto& frame) {
        rethrow_found();
        if (end_ == End::none) [[likely]]
            return false;
        end_ = End::none;
        detail::FrameAccess::set_end_of_stream(frame);
        return true;
    }

    static void finish(zb_status status, auto& frame) noexcept {
        if (status == ZB_END_OF_STREAM) [[unlikely]]
            detail::FrameAccess::set_end_of_stream(frame);
    }

    detail::Owned<zb_reader, zb_reader_free> reader_;
    std::exception_ptr found_;
    End end_ = End::none;
};

}  // namespace zerobuffer

#endif
