#include "stop.h"

#include "exit.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

namespace cli {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

/** For those that have no Stop at hand. */
std::atomic<bool> end_requested = false;

}  // namespace

struct Stop::Inner {
    std::atomic<bool> requested = false;
    std::mutex mutex;
    std::vector<zerobuffer::InterruptHandle> handles;
    /** Readable once the end is requested, for use with poll(2); the other end. */
    std::array<int, 2> pipe = {-1, -1};

    void request() {
        const std::lock_guard lock(mutex);
        // Under the lock, so that no handle is missed.
        requested = true;
        end_requested = true;
        for (const auto& handle : handles) interrupt(handle);
        // The pipe is never read, so this fails at worst when it is full, and then it is readable anyway.
        [[maybe_unused]] const auto written = ::write(pipe[1], "!", 1);
    }

    static void interrupt(const zerobuffer::InterruptHandle& handle) {
        try {
            handle.interrupt();
        } catch (const zerobuffer::zerobuffer_exception&) {
            // It has ended already.
        }
    }
};

Stop Stop::install(int code) {
    auto inner = std::make_shared<Inner>();
    sigset_t wanted;
    sigemptyset(&wanted);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
        struct sigaction action = {};
        // nohup(1) starts commands with SIGHUP ignored, and that is to stay so.
        if (signal == SIGHUP && sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN) continue;
        sigaddset(&wanted, signal);
        // A signal that is ignored, as those of a shell's background jobs are, cannot be waited for.
        action = {};
        action.sa_handler = [](int) {};
        sigaction(signal, &action, nullptr);
    }
    if (::pipe2(inner->pipe.data(), O_CLOEXEC | O_NONBLOCK) != 0 || pthread_sigmask(SIG_BLOCK, &wanted, nullptr) != 0) {
        throw Failure(code, "cannot take over the signals: " + os_error(errno));
    }
    std::thread([inner, wanted] {
        for (;;) {
            int signal = 0;
            if (sigwait(&wanted, &signal) != 0) continue;
            if (inner->requested) std::_Exit(exits::interrupted);
            inner->request();
        }
    }).detach();
    return Stop(std::move(inner));
}

bool Stop::is_requested() noexcept { return end_requested; }

bool Stop::requested() const noexcept { return inner_->requested; }

void Stop::check() const {
    if (requested()) throw Failure::interrupted();
}

void Stop::watch(zerobuffer::InterruptHandle handle) const {
    const std::lock_guard lock(inner_->mutex);
    if (inner_->requested) Inner::interrupt(handle);
    inner_->handles.push_back(std::move(handle));
}

Woken Stop::wait(int source, milliseconds limit) const {
    const auto deadline = steady_clock::now() + std::min(limit, milliseconds(std::chrono::hours(24 * 365)));
    for (;;) {
        const auto left = std::chrono::ceil<milliseconds>(deadline - steady_clock::now()).count();
        // poll(2) leaves out a negative descriptor.
        std::array<pollfd, 2> fds = {{{inner_->pipe[0], POLLIN, 0}, {source, POLLIN, 0}}};
        const int ready = ::poll(fds.data(), fds.size(), static_cast<int>(std::clamp<std::int64_t>(left, 0, 1 << 30)));
        if (requested()) return Woken::stopped;
        if (ready > 0) return Woken::ready;
        if (ready < 0 && errno != EINTR && source >= 0) return Woken::ready;
        if (steady_clock::now() >= deadline) return Woken::time_out;
    }
}

}  // namespace cli
