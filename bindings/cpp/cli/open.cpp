#include "open.h"

#include "exit.h"
#include "output.h"

#include <algorithm>
#include <cerrno>
#include <chrono>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace cli {
namespace {

using std::chrono::milliseconds;

/** Pause between two attempts to open a FIFO that has no reader. */
constexpr milliseconds look(20);

Failure refused(const std::string& option, const std::string& path, int error, int code) {
    return not_opened(error, code, exits::bad_arguments, option + " " + path);
}

}  // namespace

int open_input(const std::string& option, const std::string& path, int code) {
    // O_NONBLOCK opens a FIFO at once. poll(2) then waits for its writer as it waits for data.
    const int file = path == "-" ? ::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)
                                 : ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file < 0) throw refused(option, path, errno, code);
    struct stat status = {};
    const int error = ::fstat(file, &status) != 0 ? errno : S_ISDIR(status.st_mode) ? EISDIR : 0;
    if (error != 0) {
        ::close(file);
        throw refused(option, path, error, code);
    }
    return file;
}

int open_output(const std::string& option, const std::string& path, int code, const Stop& stop) {
    if (path == "-") {
        const int file = ::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
        if (file < 0) throw refused(option, path, errno, code);
        return file;
    }
    bool waits = false;
    for (;;) {
        // With O_NONBLOCK, opening a FIFO without a reader fails with ENXIO instead of waiting.
        const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0666);
        if (file >= 0) {
            ::fcntl(file, F_SETFL, ::fcntl(file, F_GETFL) & ~O_NONBLOCK);
            return file;
        }
        const int error = errno;
        struct stat status = {};
        if (error != ENXIO || ::stat(path.c_str(), &status) != 0 || !S_ISFIFO(status.st_mode)) {
            throw refused(option, path, error, code);
        }
        if (!waits) inform("waiting for a reader of the FIFO " + path);
        waits = true;
        if (!stop.sleep(look)) throw Failure::interrupted();
    }
}

std::string read_all(int file, const std::string& option, const std::string& path, std::size_t most, int code, const Stop& stop) {
    std::string bytes;
    int error = 0;
    bool more = true;
    while (more && bytes.size() < most) {
        if (stop.wait_readable(file, milliseconds(1000)) == Woken::time_out) continue;
        if (stop.requested()) break;
        const std::size_t before = bytes.size();
        bytes.resize(std::min<std::size_t>(most, before + 65536));
        const auto came = ::read(file, bytes.data() + before, bytes.size() - before);
        if (came < 0 && errno != EINTR && errno != EAGAIN) error = errno;
        more = came > 0 || (came < 0 && error == 0);
        bytes.resize(before + static_cast<std::size_t>(std::max<ssize_t>(came, 0)));
    }
    ::close(file);
    stop.check();
    if (error != 0) throw refused(option, path, error, code);
    return bytes;
}

}  // namespace cli
