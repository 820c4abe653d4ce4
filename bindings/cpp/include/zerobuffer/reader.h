/**
 * @file
 * The reading side of a buffer.
 */
#ifndef ZEROBUFFER_READER_H
#define ZEROBUFFER_READER_H

#include <zerobuffer/awaitable.h>
#include <zerobuffer/config.h>
#include <zerobuffer/frame.h>
#include <zerobuffer/interrupt.h>
#include <zerobuffer/notify.h>
#include <zerobuffer/version.h>

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <iterator>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace zerobuffer {

class Reader;
class SharedWriter;

/**
 * The frames of one writer, one after the other: `for (const Frame& frame : reader.frames())`. Waits for each without limit, and ends when
 * the writer closes. Each frame is released when the next one is read, unless it is moved out (`for (Frame& frame : ...)`).
 *
 * Throws like Reader::read_frame().
 */
class Frames {
public:
    /** One pass over the frames. */
    class iterator {
    public:
        using iterator_concept = std::input_iterator_tag;
        using difference_type = std::ptrdiff_t;
        using value_type = Frame;

        Frame& operator*() const noexcept { return frames_->frame_; }
        iterator& operator++() {
            frames_->next();
            return *this;
        }
        void operator++(int) { ++*this; }
        friend bool operator==(const iterator& at, std::default_sentinel_t) noexcept { return at.is_over(); }

    private:
        friend class Frames;
        explicit iterator(Frames* frames) noexcept : frames_(frames) {}
        [[nodiscard]] bool is_over() const noexcept { return frames_->frame_.end_of_stream(); }
        Frames* frames_;
    };

    /** Waits for the first frame. */
    iterator begin() {
        next();
        return iterator(this);
    }

    [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

private:
    friend class Reader;
    Frames(Reader& reader, bool latest) noexcept : reader_(&reader), latest_(latest) {}

    inline void next();

    Reader* reader_;
    bool latest_;
    Frame frame_;
};

/** What a reader has done so far, and what it holds. */
struct ReaderStats {
    /** Frames read. */
    std::uint64_t frames_read = 0;
    /** Bytes of data read, without headers. */
    std::uint64_t bytes_read = 0;
    /** How often a call found no frame and began to wait for one. */
    std::uint64_t waits = 0;
    /** Owned frames that have not been released. In a classic ring a frame that is lent counts too. */
    std::uint64_t frames_held = 0;
    /**
     * Bytes of the ring that cannot go back to the writer because of them: their own, and those of later
     * frames that were released already, headers included.
     */
    std::uint64_t bytes_held = 0;
    /** The sequence number of the oldest one. */
    std::optional<std::uint64_t> oldest_held;
    /** How many of the frames held are lent to other readers now (Writer::forward). */
    std::uint64_t frames_lent = 0;
    /** Frames read whose bytes lie in another reader's buffer, which lent them; they count as frames read, too. */
    std::uint64_t frames_shared = 0;
    /** Bytes of data of these. */
    std::uint64_t bytes_shared = 0;
};

/**
 * The reading side of a buffer: creates it, owns it, removes it when it is destroyed.
 *
 * One thread at a time may use it; a second one gets invalid_state_exception. Any thread may call
 * interrupt(), clear_interrupt(), close(), is_writer_connected() without a time-out, stats(), name() and the counters
 * at any time. Frames may be used on any thread, and outlive the reader. It moves and does not copy; a
 * moved-from reader may only be assigned to or destroyed.
 */
class Reader {
public:
    /**
     * Creates the buffer and becomes its reader.
     *
     * First removes the files that a dead reader left under this name. Takes over a kept buffer, with the
     * frames in it.
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

    /** As Reader(const std::string&, const BufferConfig&), and allows payload sharing if `config` or the bool says so. */
    template <std::same_as<bool> Bool>
    Reader(const std::string& name, const BufferConfig& config, Bool allow_payload_sharing)
        : Reader(name, BufferConfig(config).set_allow_payload_sharing(config.allow_payload_sharing() || allow_payload_sharing)) {}

    /** The buffer's name. */
    [[nodiscard]] const char* name() const noexcept { return zb_reader_name(reader_.get()); }

    /**
     * Waits up to `timeout_ms` for the next frame: an invalid one when the time is over, and, once per
     * writer, an invalid one with Frame::end_of_stream() when the writer closed and everything that it wrote
     * has been read.
     *
     * @throws writer_dead_exception once, after everything that the dead writer had committed has been read
     * @throws sequence_error_exception, corrupt_buffer_exception (both are permanent: create the buffer again)
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

    /**
     * Waits up to `timeout_ms` for a frame, and returns the newest one: those before it are passed over, and their space goes
     * back at once. frames_skipped() counts them. Only frames of one writer are passed over: the newest frame of a writer that
     * ended comes before its end, and its end before the next writer's newest frame.
     *
     * Returns and throws like read_frame().
     */
    [[nodiscard]] Frame read_latest_frame(timeout_t timeout_ms = default_timeout_ms) {
        Frame frame;
        if (tells_found(frame)) return frame;
        detail::Error error;
        finish(error.check(zb_reader_read_latest_frame(reader_.get(), timeout_ms, detail::FrameAccess::out(frame), error.out())),
               frame);
        return frame;
    }

    /** As read_latest_frame(timeout_t). */
    [[nodiscard]] Frame read_latest_frame(std::chrono::milliseconds timeout) { return read_latest_frame(timeout.count()); }

    /** The frames of one writer, for a loop: see Frames. */
    [[nodiscard]] Frames frames() { return {*this, false}; }

    /** The newest frame of one writer (read_latest_frame()), again and again, for a loop: see Frames. */
    [[nodiscard]] Frames latest_frames() { return {*this, true}; }

    /** The next frame if there is one now, else an invalid one. Leaves interrupts alone. Throws like read_frame(). */
    [[nodiscard]] Frame try_read_frame() {
        Frame frame;
        if (tells_found(frame)) return frame;
        detail::Error error;
        finish(error.check(zb_reader_try_read_frame(reader_.get(), detail::FrameAccess::out(frame), error.out())), frame);
        return frame;
    }

    /**
     * Waits up to `timeout_ms` for a first frame, then appends it and the frames behind it, at most `max`,
     * without waiting again. Returns how many were appended: 0 when the time is over, or at the end of a
     * stream, for which end_of_stream() returns true. If there was no frame, throws like read_frame(). An end
     * or an error behind the frames is reported by the next call.
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
                // The library reports it once.
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
     * Whether the last read_frames(), which returned 0, found the end of a stream instead of a time-out. For
     * the thread that reads. The next read waits for the next writer; read_frame() first returns the end once
     * more.
     */
    [[nodiscard]] bool end_of_stream() const noexcept { return end_ == End::told; }

    /**
     * Like read_frame(), but lends the frame without reference counting, one at a time, for the tightest
     * loops. The frame is valid until the next call of this reader (other than name(), counters,
     * get_metadata() and interrupts), until release_frame_ref(), or until the reader is destroyed. The next
     * read gives it back. For the thread that uses the reader.
     *
     * Throws like read_frame().
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

    /** Like read_latest_frame(), but lends the frame as read_frame_ref() does. */
    [[nodiscard]] FrameRef read_latest_frame_ref(timeout_t timeout_ms = default_timeout_ms) {
        FrameRef frame;
        if (tells_found(frame)) return frame;
        detail::Error error;
        finish(
            error.check(zb_reader_read_latest_frame_ref(reader_.get(), timeout_ms, detail::FrameAccess::out(frame), error.out())),
            frame);
        return frame;
    }

    /** As read_latest_frame_ref(timeout_t). */
    [[nodiscard]] FrameRef read_latest_frame_ref(std::chrono::milliseconds timeout) {
        return read_latest_frame_ref(timeout.count());
    }

    /** Gives back the frame that is lent, if any, without reading the next one. */
    void release_frame_ref() { detail::call(zb_reader_release_frame_ref, static_cast<const zb_reader*>(reader_.get())); }

    /**
     * Turns the frame that is lent into an owned one. Works on a closed reader too.
     *
     * @throws invalid_state_exception if no frame is lent
     */
    [[nodiscard]] Frame keep_frame_ref() {
        Frame frame;
        detail::call(zb_reader_keep_frame_ref, static_cast<const zb_reader*>(reader_.get()), detail::FrameAccess::out(frame));
        return frame;
    }

    /** Gives a frame's bytes back and makes the frame invalid. Destroying the frame gives them back too. */
    void release_frame(Frame& frame) noexcept { frame.release(); }

    /** As release_frame(Frame&). */
    void release_frame(Frame&& frame) noexcept { frame.release(); }

    /** Whether a writer lives, or committed frames are still unread. */
    [[nodiscard]] bool is_writer_connected() const {
        bool connected = false;
        detail::call(zb_reader_is_writer_connected, static_cast<const zb_reader*>(reader_.get()), &connected);
        return connected;
    }

    /**
     * Waits up to `timeout_ms` for a writer. Returns whether one is connected (or was, and left frames).
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

    /** Frames that read_latest_frame() passed over so far. They do not count as read. */
    [[nodiscard]] std::uint64_t frames_skipped() const noexcept { return zb_reader_frames_skipped(reader_.get()); }

    /** Bytes of data (without headers) read so far. */
    [[nodiscard]] std::uint64_t bytes_read() const noexcept { return zb_reader_bytes_read(reader_.get()); }

    /**
     * What the reader has done so far, and what it holds. From any thread.
     *
     * @throws closed_exception
     */
    [[nodiscard]] ReaderStats stats() const {
        zb_reader_stats stats{};
        stats.size = sizeof stats;
        detail::call(zb_reader_get_stats, static_cast<const zb_reader*>(reader_.get()), &stats);
        ReaderStats result{stats.frames_read, stats.bytes_read, stats.waits, stats.frames_held, stats.bytes_held, std::nullopt,
                           stats.frames_lent, stats.frames_shared, stats.bytes_shared};
        if (stats.frames_held > 0) {
            result.oldest_held = stats.oldest_held;
        }
        return result;
    }

    /**
     * How many bytes of the buffer this process has mapped by huge pages now: what BufferConfig::set_huge_pages() got. It reads a list of
     * all mappings of the process.
     *
     * @throws system_exception where the system does not tell; closed_exception
     */
    [[nodiscard]] std::uint64_t huge_page_bytes() const {
        std::uint64_t bytes = 0;
        detail::call(zb_reader_get_huge_page_bytes, static_cast<const zb_reader*>(reader_.get()), &bytes);
        return bytes;
    }

    /** Whether this reader allows payload sharing, and its buffer can. */
    [[nodiscard]] bool payload_sharing_enabled() const { return sharing().enabled; }

    /** How many frames of this reader are lent to other readers now. A figure, which others may change at once. */
    [[nodiscard]] std::uint64_t payload_share_count() const { return sharing().share_count; }

    /** The process that lends frames through this buffer; 0 = none. A figure: a killed process leaves it. */
    [[nodiscard]] std::uint64_t payload_owner_pid() const { return sharing().owner_pid; }

    /**
     * A file descriptor for event loops: ready to read when there may be a frame, or an end. Works with poll, select and epoll of both
     * kinds, and with everything that is made of them. Then call try_read_frame(), or read with a time-out of 0: it stays ready
     * until such a read finds nothing. It is ready at first. Never read from it, write to it or close it: it is closed with the
     * reader. A forked child has none.
     *
     * @throws system_exception if there is no file descriptor left, or no thread; invalid_state_exception, closed_exception
     */
    [[nodiscard]] int native_handle() const {
        int descriptor = -1;
        detail::call(zb_reader_fd, static_cast<const zb_reader*>(reader_.get()), &descriptor);
        return descriptor;
    }

    /**
     * Calls `callback` once, as soon as there may be a frame, or an end: at once if native_handle() is ready. So ask when a read with a
     * time-out of 0 has found nothing. A second callback replaces one that still waits. close() calls it off.
     *
     * Throws like native_handle(); then, too, the callback is destroyed.
     */
    void notify(NotifyCallback callback) const {
        detail::notify(zb_reader_notify, static_cast<const zb_reader*>(reader_.get()), std::move(callback));
    }

    /** Calls the callback off, and destroys it. Returns whether it still waited: if not, it has been called, or is being called. */
    bool cancel_notify() const {
        bool waited = false;
        detail::call(zb_reader_cancel_notify, static_cast<const zb_reader*>(reader_.get()), &waited);
        return waited;
    }

#ifdef __cpp_impl_coroutine
    /**
     * For coroutines: the next frame, or an invalid one with Frame::end_of_stream(). It has no time-out. See awaitable.h for `post`.
     *
     * Throws like read_frame() and native_handle().
     */
    template <typename Post>
    [[nodiscard]] auto read_frame_async(Post post) {
        const auto look = [](Reader& reader) { return found(reader.read_frame(0)); };
        return detail::Search<Reader, decltype(look), Post>(*this, look, std::move(post));
    }

    /** As read_frame_async(), for the newest frame (read_latest_frame()). */
    template <typename Post>
    [[nodiscard]] auto read_latest_frame_async(Post post) {
        const auto look = [](Reader& reader) { return found(reader.read_latest_frame(0)); };
        return detail::Search<Reader, decltype(look), Post>(*this, look, std::move(post));
    }
#endif

    /** Makes the call that is blocked now, or else the next one that may block, throw interrupted_exception once. */
    void interrupt() const noexcept { zb_reader_interrupt(reader_.get()); }

    /** Withdraws an interrupt that no call has met yet. */
    void clear_interrupt() const noexcept { zb_reader_clear_interrupt(reader_.get()); }

    /** An interrupt that may outlive the reader. */
    [[nodiscard]] InterruptHandle interrupt_handle() const {
        return InterruptHandle(zb_reader_interrupt_handle(reader_.get()));
    }

    /** Closes the reader and removes the buffer, even while another thread waits. Frames that are still held stay valid. */
    void close() { detail::call(zb_reader_close, static_cast<const zb_reader*>(reader_.get())); }

private:
    friend class SharedWriter;
    friend class Tee;

    zb_payload_sharing sharing() const {
        zb_payload_sharing sharing{};
        detail::call(zb_reader_payload_sharing, static_cast<const zb_reader*>(reader_.get()), &sharing);
        return sharing;
    }

    /** An end or error that read_frames() found behind the frames, or instead of them, and that the library reports once. */
    enum class End : std::uint8_t { none, found, told };

    void rethrow_found() {
        if (found_) [[unlikely]]
            std::rethrow_exception(std::exchange(found_, nullptr));
    }

    /** Whether the frame reports what read_frames() found. */
    bool tells_found(auto& frame) {
        rethrow_found();
        if (end_ == End::none) [[likely]]
            return false;
        end_ = End::none;
        detail::FrameAccess::set_end_of_stream(frame);
        return true;
    }

    static std::optional<Frame> found(Frame frame) {
        if (!frame.valid() && !frame.end_of_stream()) return std::nullopt;
        return frame;
    }

    static void finish(zb_status status, auto& frame) noexcept {
        if (status == ZB_END_OF_STREAM) [[unlikely]]
            detail::FrameAccess::set_end_of_stream(frame);
    }

    detail::Owned<zb_reader, zb_reader_free> reader_;
    std::exception_ptr found_;
    End end_ = End::none;
};

inline void Frames::next() {
    frame_.release();
    frame_ = latest_ ? reader_->read_latest_frame(forever) : reader_->read_frame(forever);
}

}  // namespace zerobuffer

#endif
