#include "output.h"

#include "exit.h"
#include "stop.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <mutex>

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace cli {
namespace {

/** Bytes that a pipe which is ready takes without blocking. */
constexpr std::size_t piece = 4096;

/** How long a line for people waits for room on standard error. */
constexpr int patience_ms = 100;

/** How long results wait for room on standard output once the end is requested. */
constexpr int grace_ms = 500;

/** The state of both streams; every line takes the lock. */
struct State {
    std::recursive_mutex mutex;
    bool verbose = false;
    /** A progress line is on the terminal. */
    bool progress = false;
    /** Standard error had no room when last looked at. */
    bool stalled = false;
    /** Lines that were dropped because there was no room. */
    std::uint64_t dropped = 0;
    /** The first failure of standard output; 0 if there is none. */
    int failure = 0;
    /** Whether the output that failed was JSON, or other text for programs. */
    bool for_programs = false;
};

State& state() {
    // Never destroyed: other threads may print until the process has ended.
    static State& streams = *new State;
    return streams;
}

/** Whether `file` takes some bytes now; waits up to `limit_ms`. */
bool has_room(int file, int limit_ms) {
    pollfd entry{file, POLLOUT, 0};
    int ready = 0;
    do ready = ::poll(&entry, 1, limit_ms);
    while (ready < 0 && errno == EINTR);
    // A stream that cannot be polled, or that has failed, reports that when it is written to.
    return ready != 0;
}

/** Writes a piece; returns the error number, 0 for none. */
int write_piece(int file, std::string_view& bytes) {
    const auto written = ::write(file, bytes.data(), std::min(bytes.size(), piece));
    if (written >= 0) {
        bytes.remove_prefix(static_cast<std::size_t>(written));
        return 0;
    }
    return errno == EINTR || errno == EAGAIN ? 0 : errno;
}

/** Writes to standard error as much as it accepts within a moment. Returns whether that was all. */
bool put_on_stderr(std::string_view bytes) {
    State& streams = state();
    while (!bytes.empty()) {
        if (!has_room(STDERR_FILENO, streams.stalled ? 0 : patience_ms)) {
            streams.stalled = true;
            return false;
        }
        streams.stalled = false;
        if (write_piece(STDERR_FILENO, bytes) != 0) return true;
    }
    return true;
}

/** Writes all bytes, without a time limit, unless the end is requested. Returns the error number, 0 for none. */
int put_all(int file, std::string_view bytes) {
    constexpr int look_ms = 20;
    int waited_ms = 0;
    while (!bytes.empty()) {
        if (has_room(file, look_ms)) {
            if (const int failed = write_piece(file, bytes)) return failed;
        } else if (Stop::is_requested() && (waited_ms += look_ms) > grace_ms) {
            return EAGAIN;
        }
    }
    return 0;
}

/** Writes to standard output; remembers the first failure. */
void put_on_stdout(std::string_view bytes, bool for_programs) {
    State& streams = state();
    if (streams.failure != 0) return;
    streams.failure = put_all(STDOUT_FILENO, bytes);
    streams.for_programs = for_programs;
}

/** Bytes of the UTF-8 sequence at the start of `text`; 0 if there is none. */
std::size_t sequence_length(std::string_view text) {
    const auto byte = [&text](std::size_t at) { return static_cast<unsigned char>(text[at]); };
    const unsigned first = byte(0);
    const std::size_t length = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
    if (length == 0 || length > text.size()) return 0;
    for (std::size_t at = 1; at < length; ++at) {
        if ((byte(at) & 0xc0U) != 0x80) return 0;
    }
    return length;
}

std::uint32_t code_point(std::string_view sequence) {
    if (sequence.size() == 1) return static_cast<unsigned char>(sequence[0]);
    std::uint32_t value = static_cast<unsigned char>(sequence[0]) & (0xffU >> (sequence.size() + 1));
    for (const char byte : sequence.substr(1)) value = value << 6U | (static_cast<unsigned char>(byte) & 0x3fU);
    return value;
}

bool is_control(std::uint32_t point) { return point < 0x20 || (point >= 0x7f && point < 0xa0); }

/** Characters that change the direction of the text around them. */
bool turns_text(std::uint32_t point) {
    return point == 0x200e || point == 0x200f || (point >= 0x202a && point <= 0x202e) || (point >= 0x2066 && point <= 0x2069);
}

std::string escape(const char* format, std::uint32_t value) {
    std::array<char, 16> text{};
    std::snprintf(text.data(), text.size(), format, value);
    return text.data();
}

/** Copies text, with `replace` in the place of what must not reach a terminal. */
template <typename Replace>
std::string copy_shown(std::string_view text, Replace replace) {
    std::string result;
    result.reserve(text.size());
    while (!text.empty()) {
        const std::size_t length = sequence_length(text);
        const std::string_view sequence = text.substr(0, std::max<std::size_t>(length, 1));
        const std::uint32_t point = length == 0 ? static_cast<unsigned char>(text[0]) : code_point(sequence);
        if (length == 0 || is_control(point) || turns_text(point)) {
            result += replace(point, sequence);
        } else {
            result += sequence;
        }
        text.remove_prefix(sequence.size());
    }
    return result;
}

}  // namespace

void occupy_standard_streams() {
    // Opened in the wrong direction, so that every use fails like a use of the closed stream.
    for (const int file : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
        if (::fcntl(file, F_GETFD) >= 0) continue;
        // The lowest free descriptor is this one: those below are open.
        [[maybe_unused]] const int placeholder = ::open("/dev/null", file == STDIN_FILENO ? O_WRONLY : O_RDONLY);
    }
}

std::string shown(std::string_view text) {
    return copy_shown(text, [](std::uint32_t point, std::string_view) {
        return escape(point < 0x100 ? "\\x%02x" : "\\u%04x", point);
    });
}

void set_verbose(bool verbose) { state().verbose = verbose; }

bool is_verbose() { return state().verbose; }

void tell(std::string_view line) {
    State& streams = state();
    const std::lock_guard lock(streams.mutex);
    clear_progress();
    if (!put_on_stderr(shown(line) + "\n")) ++streams.dropped;
}

void complain(const std::string& message) { tell("zerobuffer: error: " + message); }

void inform(const std::string& message) {
    if (is_verbose()) tell("zerobuffer: info: " + message);
}

void say(std::string_view line) {
    const std::lock_guard lock(state().mutex);
    clear_progress();
    put_on_stdout(shown(line) + "\n", false);
}

void say_text(std::string_view text) {
    const std::lock_guard lock(state().mutex);
    put_on_stdout(text, false);
}

void say_json(const std::string& json, bool to_stderr) {
    State& streams = state();
    const std::lock_guard lock(streams.mutex);
    clear_progress();
    const std::string text = copy_shown(json, [](std::uint32_t point, std::string_view sequence) {
        return point < 0x20 ? std::string(sequence) : escape("\\u%04x", point);
    });
    if (to_stderr) {
        put_all(STDERR_FILENO, text + "\n");
    } else {
        put_on_stdout(text + "\n", true);
    }
}

bool has_terminal() {
    const char* terminal = std::getenv("TERM");
    return ::isatty(STDERR_FILENO) != 0 && (terminal == nullptr || std::string_view(terminal) != "dumb");
}

void show_progress(const std::string& line) {
    State& streams = state();
    const std::lock_guard lock(streams.mutex);
    winsize size{};
    const bool known = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1;
    const std::size_t width = known ? size.ws_col - 1U : 79U;
    // A terminal that is stopped (Ctrl-S) is not waited for.
    if (!has_room(STDERR_FILENO, 0)) return;
    put_on_stderr("\r\x1b[K" + shown(line).substr(0, width));
    streams.progress = true;
}

void clear_progress() {
    State& streams = state();
    const std::lock_guard lock(streams.mutex);
    if (!streams.progress) return;
    streams.progress = false;
    put_on_stderr("\r\x1b[K");
}

int exit_code(int code) {
    State& streams = state();
    const std::lock_guard lock(streams.mutex);
    if (streams.dropped > 0) {
        tell("zerobuffer: warn: " + std::to_string(streams.dropped) + " lines were dropped, because standard error was not read");
    }
    // A reader that closes a pipe has read enough of a text, but needs a JSON value completely.
    if (streams.failure == 0 || (streams.failure == EPIPE && !streams.for_programs)) return code;
    complain("cannot write to standard output: " + os_error(streams.failure));
    return code == exits::ok ? exits::unprinted : code;
}

}  // namespace cli
