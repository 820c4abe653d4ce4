#include "sink.h"

#include "exit.h"
#include "open.h"

#include <cerrno>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

namespace cli {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

/** The most frames on their way to the thread. */
constexpr std::size_t most_under_way = 32;

/** Small frames are written together, up to this many bytes. */
constexpr std::size_t together = std::size_t{1} << 17U;

/** How often to look at a full queue. */
constexpr milliseconds look(20);

/** How long an interrupted reader waits for what it has read to be written. */
constexpr milliseconds grace(500);

/** Writes all bytes. Returns the error number, 0 for none. */
int write_all(int file, std::span<const std::uint8_t> bytes) {
    while (!bytes.empty()) {
        const auto written = ::write(file, bytes.data(), bytes.size());
        if (written < 0 && errno == EAGAIN) {
            // Another process has made the stream non-blocking.
            pollfd entry{file, POLLOUT, 0};
            ::poll(&entry, 1, -1);
        } else if (written < 0 && errno != EINTR) {
            return errno;
        }
        if (written > 0) bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
    return 0;
}

}  // namespace

/** Shared with the thread, which outlives an interrupted reader. */
struct Sink::Queue {
    explicit Queue(int descriptor) : file(descriptor) {}
    Queue(const Queue&) = delete;
    Queue& operator=(const Queue&) = delete;
    ~Queue() { ::close(file); }

    int file;
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<std::shared_ptr<const zerobuffer::Frame>> frames;
    std::size_t under_way = 0;
    bool closed = false;
    bool done = false;
    int error = 0;

    /** The next frame; nothing at the end, or (unless `patient`) if there is none now. */
    std::shared_ptr<const zerobuffer::Frame> next(bool patient) {
        std::unique_lock lock(mutex);
        if (patient) changed.wait(lock, [this] { return closed || !frames.empty(); });
        if (frames.empty()) return nullptr;
        auto frame = std::move(frames.front());
        frames.pop_front();
        return frame;
    }

    /** A frame has been written, or taken over. */
    void count() {
        const std::lock_guard lock(mutex);
        --under_way;
        changed.notify_all();
    }

    int write() {
        std::vector<std::uint8_t> buffer;
        buffer.reserve(together);
        const auto flush = [&] {
            const int failed = write_all(file, buffer);
            buffer.clear();
            return failed;
        };
        for (;;) {
            auto frame = next(false);
            if (!frame) {
                // The buffer is flushed when no more frames wait, so that a live picture is shown at once.
                if (const int failed = flush()) return failed;
                frame = next(true);
            }
            if (!frame) return 0;
            if (buffer.size() + frame->size() > together || frame->size() > together / 4) {
                if (const int failed = flush()) return failed;
            }
            if (frame->size() > together / 4) {
                if (const int failed = write_all(file, frame->span())) return failed;
            } else {
                buffer.insert(buffer.end(), frame->begin(), frame->end());
            }
            frame.reset();
            count();
        }
    }
};

Sink::Sink(const std::string& path, const Stop& stop) : path_(path) {
    const int file = open_output("--output", path, exits::reader::read_error, stop);
    queue_ = std::make_shared<Queue>(file);
    // A larger pipe buffer, if the system allows it; else the usual 64 KiB.
    ::fcntl(file, F_SETPIPE_SZ, 1 << 20);
    std::thread([queue = queue_] {
        const int error = queue->write();
        const std::lock_guard lock(queue->mutex);
        queue->error = error;
        queue->done = true;
        queue->changed.notify_all();
    }).detach();
}

bool Sink::put(std::shared_ptr<const zerobuffer::Frame> frame, const Stop& stop) {
    std::unique_lock lock(queue_->mutex);
    while (queue_->under_way >= most_under_way && !queue_->done) {
        if (queue_->changed.wait_for(lock, look) == std::cv_status::timeout && stop.requested()) return false;
    }
    if (queue_->done) return false;
    ++queue_->under_way;
    queue_->frames.push_back(std::move(frame));
    queue_->changed.notify_all();
    return true;
}

void Sink::finish(const Stop& stop) {
    std::unique_lock lock(queue_->mutex);
    queue_->closed = true;
    queue_->changed.notify_all();
    std::optional<steady_clock::time_point> deadline;
    while (!queue_->done) {
        if (stop.requested()) {
            if (!deadline) deadline = steady_clock::now() + grace;
            if (steady_clock::now() > *deadline) return;
        }
        queue_->changed.wait_for(lock, look);
    }
    if (queue_->error != 0) {
        throw Failure(exits::reader::read_error, "cannot write to --output " + path_ + ": " + os_error(queue_->error));
    }
}

}  // namespace cli
