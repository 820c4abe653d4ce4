/**
 * @file
 * One reader, many outputs.
 */
#ifndef ZEROBUFFER_TEE_H
#define ZEROBUFFER_TEE_H

#include <zerobuffer/frame.h>
#include <zerobuffer/reader.h>
#include <zerobuffer/writer.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace zerobuffer {

/** An output of a Tee, and what it got. */
struct TeeOutput {
    /** Name of the buffer that it writes. */
    std::string name;
    /** Of a drop output, how many frames it has at most that its reader has not given back; 0: a block output. */
    std::size_t bound = 0;
    /** Frames that it got without a copy of its own. */
    std::uint64_t frames_shared = 0;
    /** Frames that it got as a copy of its own. */
    std::uint64_t frames_copied = 0;
    /** Frames that it did not get. */
    std::uint64_t frames_dropped = 0;
    /** Why it has ended, for example ZB_ERROR_READER_DEAD; ZB_OK while it gets frames. */
    zb_status ended = ZB_OK;
};

/**
 * Passes the frames of one reader on to any number of outputs.
 *
 * - A *block* output gets every frame. While it is full, the tee waits, and so does the source in the end. It is lent the source's
 *   bytes where its writer requests sharing and both readers allow it.
 * - A *drop* output has at most so many frames that its reader has not given back; what comes then is dropped, and counted. The tee
 *   never waits for it. Two and more such outputs are lent one copy, where they request and allow sharing.
 *
 * Block outputs are served first. An output whose reader dies or closes ends: it gets nothing more, and the others go on.
 *
 * One thread at a time may use it; a second one gets invalid_state_exception. Any thread may call interrupt(), close() and name() at any
 * time. It moves and does not copy; a moved-from tee may only be assigned to or destroyed. Destroying it closes it.
 */
class Tee {
public:
    /** Frames that a drop output usually has at most: one that its viewer looks at, and one that comes next. */
    static constexpr std::size_t drop_frames = 2;

    /**
     * A tee without outputs, which takes the reader over.
     *
     * @throws closed_exception, invalid_state_exception
     */
    explicit Tee(Reader&& reader) {  // NOLINT: the handle is taken from it
        detail::check_abi();
        zb_tee* tee = nullptr;
        detail::call(zb_tee_create, static_cast<const zb_reader*>(reader.reader_.get()), &tee);
        tee_.reset(tee);
        reader.reader_.reset();
    }

    /** Name of the buffer that it reads. */
    [[nodiscard]] const char* name() const noexcept { return zb_tee_name(tee_.get()); }

    /**
     * Adds an output that gets every frame from the next one on, and takes the writer over. How long the tee waits for space in it is
     * the writer's write time-out. It takes the place of an output of that name that has ended.
     *
     * @throws closed_exception, invalid_state_exception
     */
    void add_block_output(Writer&& writer) {  // NOLINT: the handle is taken from it
        detail::call(zb_tee_add_block_output, handle(), writer.handle());
        writer.writer_.reset();
    }

    /**
     * Adds an output that has at most `frames` frames (at least one) that its reader has not given back, and takes the writer over. What
     * comes then is dropped. It takes the place of an output of that name that has ended.
     *
     * @throws closed_exception, invalid_state_exception
     */
    void add_drop_output(Writer&& writer, std::size_t frames = drop_frames) {  // NOLINT: the handle is taken from it
        detail::call(zb_tee_add_drop_output, handle(), writer.handle(), frames);
        writer.writer_.reset();
    }

    /** Closes the output that writes the buffer. Returns whether there was one. What it got stays with its reader. */
    bool remove_output(const std::string& name) {
        bool removed = false;
        detail::call(zb_tee_remove_output_n, handle(), name.data(), name.size(), &removed);
        return removed;
    }

    /**
     * Waits up to `timeout_ms` for a frame, and passes it on. Returns whether there was one: if not, the time is over, or the writer has
     * closed (end_of_stream()).
     *
     * @throws the exceptions of Reader::read_frame() and of forward(), whose buffer_name() tells the buffer
     */
    bool step(timeout_t timeout_ms = default_timeout_ms) {
        end_ = false;
        const zb_status status = detail::call(zb_tee_step, handle(), timeout_ms);
        end_ = status == ZB_END_OF_STREAM;
        return status == ZB_OK;
    }

    /** As step(timeout_t). */
    bool step(std::chrono::milliseconds timeout) { return step(timeout_t{timeout.count()}); }

    /** Whether the last step(), which returned false, or read_frame() found the end of the stream. The next one waits for the next writer. */
    [[nodiscard]] bool end_of_stream() const noexcept { return end_; }

    /**
     * Passes frames on until their writer closes. After the exception of an output a further call goes on.
     *
     * @throws the exceptions of step()
     */
    void run() {
        detail::call(zb_tee_run, handle());
        end_ = true;
    }

    /**
     * Waits up to `timeout_ms` for a frame, for a program that looks at it or changes it (Frame::make_mut()) before it passes it on
     * (forward()). The frame is invalid if the time is over, or the writer has closed (end_of_stream()). Frames that a full output has
     * kept back go first.
     *
     * @throws the exceptions of step()
     */
    [[nodiscard]] Frame read_frame(timeout_t timeout_ms = default_timeout_ms) {
        Frame frame;
        end_ = false;
        end_ = detail::call(zb_tee_read_frame, handle(), timeout_ms, detail::FrameAccess::out(frame)) == ZB_END_OF_STREAM;
        return frame;
    }

    /** As read_frame(timeout_t). */
    [[nodiscard]] Frame read_frame(std::chrono::milliseconds timeout) { return read_frame(timeout_t{timeout.count()}); }

    /**
     * Passes a frame on to all outputs: to block outputs, waiting for space in each up to its write time-out; then to drop outputs.
     * The tee takes the frame.
     *
     * @throws buffer_full_exception, out_of_memory_exception, interrupted_exception: the outputs from that one on have still to get the
     *         frame, and the next call goes on there
     * @throws frame_too_large_exception: that output does without the frame
     * @throws reader_dead_exception and others: that output has ended; the others have got the frame
     * @throws invalid_argument_exception if the frame is invalid, or not one that a Reader or a Tee has read
     */
    void forward(Frame&& frame) {  // NOLINT: the frame is taken by the call
        detail::call(zb_tee_forward, handle(), detail::FrameAccess::out(frame));
    }

    /** Goes on with a frame that an output has kept back; without one it does nothing. Throws like forward(). */
    void flush() { detail::call(zb_tee_flush, handle()); }

    /** The outputs, also those that have ended, in the order in which they were added. */
    [[nodiscard]] std::vector<TeeOutput> outputs() const {
        std::size_t count = 0;
        detail::call(zb_tee_outputs, handle(), static_cast<zb_tee_output*>(nullptr), std::size_t{0}, &count);
        std::vector<zb_tee_output> raw(count);
        detail::call(zb_tee_outputs, handle(), raw.data(), raw.size(), &count);
        std::vector<TeeOutput> outputs;
        outputs.reserve(raw.size());
        for (const zb_tee_output& one : raw) {
            outputs.push_back({&one.name[0], one.bound, one.frames_shared, one.frames_copied, one.frames_dropped, one.ended});
        }
        return outputs;
    }

    /** Makes the call that is blocked now, or else the next one that may block, throw interrupted_exception once. From any thread. */
    void interrupt() const noexcept { zb_tee_interrupt(tee_.get()); }

    /** Closes the reader and the outputs. A blocked call of another thread throws closed_exception, and so does every later call. */
    void close() { detail::call(zb_tee_close, handle()); }

private:
    [[nodiscard]] const zb_tee* handle() const noexcept { return tee_.get(); }

    detail::Owned<zb_tee, zb_tee_free> tee_;
    bool end_ = false;
};

}  // namespace zerobuffer

#endif
