// Time-outs in the form of the command line, and waits in slices, so that other work gets its turn.
#ifndef ZEROBUFFER_CLI_WAIT_H
#define ZEROBUFFER_CLI_WAIT_H

#include <zerobuffer/reader.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>

namespace cli {

/** The rest of a time-out; a negative time-out never ends. */
class Deadline {
public:
    explicit Deadline(std::int64_t timeout_ms) {
        // More than a year has no end, and cannot overflow.
        constexpr std::int64_t year = 1000LL * 3600 * 24 * 365;
        if (timeout_ms >= 0 && timeout_ms < year) end_ = Clock::now() + std::chrono::milliseconds(timeout_ms);
    }

    [[nodiscard]] bool is_over() const { return end_ && Clock::now() >= *end_; }

    /** The time for the next call, in milliseconds: what is left, but no more than a slice. */
    [[nodiscard]] std::int64_t slice() const {
        if (!end_) return longest;
        return std::clamp<std::int64_t>(std::chrono::ceil<std::chrono::milliseconds>(*end_ - Clock::now()).count(), 0, longest);
    }

private:
    using Clock = std::chrono::steady_clock;
    static constexpr std::int64_t longest = 50;

    std::optional<Clock::time_point> end_;
};

/**
 * Waits for the next frame, calling `idle` whenever there has been none for a slice. As Reader::read_frame(): an invalid frame when
 * the time is over or the stream at its end.
 */
template <typename Idle>
zerobuffer::Frame next_frame(zerobuffer::Reader& reader, std::int64_t timeout_ms, Idle idle) {
    // The hot path: no clock, no deadline.
    zerobuffer::Frame frame = reader.try_read_frame();
    if (frame.valid() || frame.end_of_stream()) return frame;
    const Deadline deadline(timeout_ms);
    for (;;) {
        frame = reader.read_frame(deadline.slice());
        if (frame.valid() || frame.end_of_stream() || deadline.is_over()) return frame;
        idle();
    }
}

/** Waits for a frame as next_frame(), and passes over all but the newest. */
template <typename Idle>
zerobuffer::Frame latest_frame(zerobuffer::Reader& reader, std::int64_t timeout_ms, Idle idle) {
    const Deadline deadline(timeout_ms);
    for (;;) {
        zerobuffer::Frame frame = reader.read_latest_frame(deadline.slice());
        if (frame.valid() || frame.end_of_stream() || deadline.is_over()) return frame;
        idle();
    }
}

}  // namespace cli

#endif
