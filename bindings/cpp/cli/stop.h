// An orderly end on Ctrl-C, SIGTERM or a closed terminal, whatever the command waits for.
#ifndef ZEROBUFFER_CLI_STOP_H
#define ZEROBUFFER_CLI_STOP_H

#include <zerobuffer/interrupt.h>

#include <chrono>
#include <memory>

namespace cli {

/** What ended a wait. */
enum class Woken { ready, time_out, stopped };

/** A request to end, and what it must wake. */
class Stop {
public:
    /**
     * Takes over the signals; called before any other thread is started. A second signal ends the process at once. Throws Failure
     * with `code`.
     */
    static Stop install(int code);

    /** Whether the end is requested; false before install(). */
    [[nodiscard]] static bool is_requested() noexcept;

    [[nodiscard]] bool requested() const noexcept;

    /** Throws if the end is requested. */
    void check() const;

    /** Interrupts the calls of `handle` when the end is requested. */
    void watch(zerobuffer::InterruptHandle handle) const;

    /** Sleeps. Returns whether it slept all the time: false if a request ended the sleep. */
    bool sleep(std::chrono::milliseconds time) const { return wait(-1, time) == Woken::time_out; }

    /** Waits until there is something to read from a file descriptor. */
    [[nodiscard]] Woken wait_readable(int source, std::chrono::milliseconds limit) const { return wait(source, limit); }

private:
    struct Inner;

    explicit Stop(std::shared_ptr<Inner> inner) : inner_(std::move(inner)) {}

    [[nodiscard]] Woken wait(int source, std::chrono::milliseconds limit) const;

    std::shared_ptr<Inner> inner_;
};

}  // namespace cli

#endif
