/**
 * @file Frames: bytes in shared memory that are valid until they are released.
 */
#ifndef ZEROBUFFER_FRAME_H
#define ZEROBUFFER_FRAME_H

#include <zerobuffer/exceptions.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

namespace zerobuffer {

namespace detail {
struct FrameAccess;

/** The part that Frame and FrameRef share: access to the bytes. */
template <typename Raw>
class FrameView {
public:
    /** Whether there is a frame. */
    [[nodiscard]] bool valid() const noexcept { return raw_.data != nullptr; }

    /** As valid(). */
    explicit operator bool() const noexcept { return valid(); }

    /** The first byte; null if the frame is invalid. */
    [[nodiscard]] const std::uint8_t* data() const noexcept { return raw_.data; }

    /** Bytes of data. */
    [[nodiscard]] std::size_t size() const noexcept { return raw_.size; }

    /** The bytes. */
    [[nodiscard]] std::span<const std::uint8_t> span() const noexcept { return {raw_.data, raw_.size}; }

    /** The first byte, for `for (auto byte : frame)`. */
    [[nodiscard]] const std::uint8_t* begin() const noexcept { return raw_.data; }

    /** Behind the last byte. */
    [[nodiscard]] const std::uint8_t* end() const noexcept { return raw_.data + raw_.size; }

    /** The number that the writer gave the frame: 1, 2, 3 ...; in a duplex channel, that of the request. */
    [[nodiscard]] std::uint64_t sequence() const noexcept { return raw_.sequence; }

    /** Of an invalid frame: whether the writer closed and everything that it wrote has been read. */
    [[nodiscard]] bool end_of_stream() const noexcept { return end_of_stream_; }

protected:
    FrameView() noexcept = default;
    FrameView(const FrameView&) noexcept = default;
    FrameView(FrameView&&) noexcept = default;
    FrameView& operator=(const FrameView&) noexcept = default;
    FrameView& operator=(FrameView&&) noexcept = default;
    ~FrameView() = default;

    Raw raw_{};
    bool end_of_stream_ = false;

private:
    friend struct FrameAccess;
};
}  // namespace detail

/**
 * A frame in shared memory, or an invalid one where there was nothing to read.
 *
 * It owns its bytes until it is destroyed or released. Several can be held at once, and destroyed in any
 * order and on any thread. It stays valid after its reader or client is destroyed. It moves and does not
 * copy; a moved-from frame is invalid. No memory is allocated for it.
 *
 * The request that a duplex handler gets belongs to that call: moving it yields an invalid frame.
 */
class Frame : public detail::FrameView<zb_frame> {
public:
    /** An invalid frame. */
    Frame() noexcept = default;

    /** An invalid frame, for calls that have nothing to return. */
    static Frame invalid() noexcept { return {}; }

    /** A frame with a copy of the bytes, in its own memory, for tests of handlers, which may also change it in place. */
    [[nodiscard]] static Frame copy_of(const void* data, std::size_t size, std::uint64_t sequence = 1) {
        Frame frame;
        detail::call(zb_frame_copy_of, static_cast<const std::uint8_t*>(data), size, sequence, &frame.raw_);
        return frame;
    }

    /** As copy_of(const void*, std::size_t, std::uint64_t). */
    [[nodiscard]] static Frame copy_of(std::span<const std::uint8_t> data, std::uint64_t sequence = 1) {
        return copy_of(data.data(), data.size(), sequence);
    }

    /** As copy_of(const void*, std::size_t, std::uint64_t), for text. */
    [[nodiscard]] static Frame copy_of(std::string_view text, std::uint64_t sequence = 1) {
        return copy_of(text.data(), text.size(), sequence);
    }

    Frame(const Frame&) = delete;
    Frame& operator=(const Frame&) = delete;

    /** Takes over the other frame's bytes, and leaves it invalid. */
    Frame(Frame&& other) noexcept { take(other); }

    /** Releases this frame's bytes, takes over the other frame's, and leaves that one invalid. */
    Frame& operator=(Frame&& other) noexcept {
        if (this != &other) {
            release();
            take(other);
        }
        return *this;
    }

    /** Gives the bytes back. */
    ~Frame() {
        if (raw_.state != 0) zb_frame_release(&raw_);
    }

    /** Of a request in a mutable server, or a copy: the first byte, to be changed in place; null for any other frame. */
    [[nodiscard]] std::uint8_t* mutable_data() noexcept { return zb_frame_mutable_data(&raw_); }

    /** Of a request in a mutable server, or a copy: its bytes, to be changed in place; empty for any other frame. */
    [[nodiscard]] std::span<std::uint8_t> mutable_span() noexcept {
        std::uint8_t* first = mutable_data();
        return {first, first != nullptr ? raw_.size : 0};
    }

    /**
     * The bytes, to be changed in place before the frame is passed on (Writer::forward()). The writer that wrote them never learns
     * of it. Do not write to them any more once the frame has been passed on: the next reader looks at these very bytes.
     *
     * @throws invalid_state_exception if others may look at the bytes: the frame has been passed on already, or is itself a shared
     *         one (is_shared())
     * @throws invalid_argument_exception if the frame is invalid, or not one that a Reader has read
     */
    [[nodiscard]] std::span<std::uint8_t> make_mut() {
        std::uint8_t* first = nullptr;
        detail::call(zb_frame_make_mut, &raw_, &first);
        return {first, raw_.size};
    }

    /**
     * Like make_mut(), but returns a private copy if others may look at the bytes: the frame has the copy from then on, and is passed
     * on by a copy. Spans of the bytes as they were before are valid until the frame is released.
     *
     * @throws invalid_argument_exception if the frame is invalid, or not one that a Reader has read
     */
    [[nodiscard]] std::span<std::uint8_t> to_mut() {
        std::uint8_t* first = nullptr;
        detail::call(zb_frame_to_mut, &raw_, &first);
        return {first, raw_.size};
    }

    /**
     * Whether the bytes lie in another reader's buffer, which has lent them (Writer::forward()). They keep their place there, so release
     * the frame soon.
     */
    [[nodiscard]] bool is_shared() const noexcept { return zb_frame_is_shared(&raw_); }

    /**
     * Of a request in its handler: whether the response is no longer wanted, because the client has cancelled
     * the request or given it up, its deadline is over, or the server has been stopped. A handler that works for
     * long should check this regularly.
     */
    [[nodiscard]] bool is_cancelled() const noexcept { return zb_frame_is_cancelled(&raw_); }

    /** Of a request in its handler: how long the client still waits; no value if it set no limit. */
    [[nodiscard]] std::optional<std::chrono::nanoseconds> time_left() const noexcept {
        const auto left = zb_frame_time_left_ns(&raw_);
        if (left < 0) return std::nullopt;
        return std::chrono::nanoseconds(left);
    }

    /** Gives the bytes back and makes the frame invalid. Destroying the frame gives them back too. */
    void release() noexcept {
        if (raw_.state != 0) zb_frame_release(&raw_);
        end_of_stream_ = false;
    }

private:
    friend struct detail::FrameAccess;

    void take(Frame& other) noexcept {
        end_of_stream_ = std::exchange(other.end_of_stream_, false);
        borrowed_ = false;
        if (other.borrowed_) {
            raw_ = zb_frame{};
            return;
        }
        raw_ = std::exchange(other.raw_, zb_frame{});
    }

    /** It belongs to the call of a handler. */
    bool borrowed_ = false;
};

/**
 * A frame that its reader lends until the reader's next call, or an invalid one where there was nothing to
 * read. It is cheaper than a Frame. It is a view: it can be copied, and must not be used after the loan. See
 * Reader::read_frame_ref().
 */
class FrameRef : public detail::FrameView<zb_frame_ref> {
public:
    /** An invalid frame. */
    FrameRef() noexcept = default;
};

namespace detail {

/** Access to frames for the other classes. */
struct FrameAccess {
    /** The place in which the C ABI puts a frame. */
    template <typename Raw>
    static Raw* out(FrameView<Raw>& frame) noexcept {
        return &frame.raw_;
    }

    /** A frame, as the C ABI takes it. */
    template <typename Raw>
    static const Raw* in(const FrameView<Raw>& frame) noexcept {
        return &frame.raw_;
    }

    template <typename Raw>
    static void set_end_of_stream(FrameView<Raw>& frame) noexcept {
        frame.end_of_stream_ = true;
    }

    /** A request, for the time of its handler's call. */
    static void borrow(Frame& frame, const zb_frame& request) noexcept {
        *out(frame) = request;
        frame.borrowed_ = true;
    }
};

}  // namespace detail
}  // namespace zerobuffer

#endif
