#include "source.h"

#include "exit.h"
#include "open.h"

#include <algorithm>
#include <cerrno>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace cli {
namespace {

/** Bytes read ahead. */
constexpr std::size_t most_ahead = 4096;

/** Pause between two looks at the reader while the input has nothing. */
constexpr std::chrono::milliseconds look(100);

}  // namespace

Source::Source(const std::string& path)
    : file_(open_input("--input", path, exits::writer::write_error)), what_(path == "-" ? "standard input" : path) {
    struct stat status = {};
    ::fstat(file_, &status);
    can_block_ = !S_ISREG(status.st_mode);
    // A larger pipe buffer, if the system allows it; else the usual 64 KiB.
    ::fcntl(file_, F_SETPIPE_SZ, 1 << 20);
}

Source::~Source() { ::close(file_); }

bool Source::has_more(const zerobuffer::Writer& writer, const Stop& stop, std::size_t size) {
    if (ahead_.empty()) {
        ahead_.resize(std::min(size, most_ahead));
        const std::size_t came = read(writer, stop, ahead_);
        ahead_.resize(came);
    }
    return !ahead_.empty();
}

std::size_t Source::fill(const zerobuffer::Writer& writer, const Stop& stop, std::span<std::uint8_t> frame) {
    std::size_t filled = ahead_.size();
    std::copy(ahead_.begin(), ahead_.end(), frame.begin());
    ahead_.clear();
    while (filled < frame.size()) {
        const std::size_t came = read(writer, stop, frame.subspan(filled));
        if (came == 0) break;
        filled += came;
    }
    return filled;
}

std::size_t Source::read(const zerobuffer::Writer& writer, const Stop& stop, std::span<std::uint8_t> bytes) {
    for (;;) {
        const Woken woken = can_block_ ? stop.wait_readable(file_, look) : Woken::ready;
        if (woken == Woken::stopped) throw Failure::interrupted();
        if (woken == Woken::time_out) {
            if (writer.is_reader_connected()) continue;
            throw Failure(exits::writer::write_error,
                          std::string("buffer `") + writer.name() + "`: the reader has gone: start it again");
        }
        const auto came = ::read(file_, bytes.data(), bytes.size());
        if (came >= 0) return static_cast<std::size_t>(came);
        if (errno != EINTR && errno != EAGAIN) throw Failure(exits::writer::write_error, "cannot read " + what_ + ": " + os_error(errno));
    }
}

}  // namespace cli
