#include "progress.h"

#include "output.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace cli {
namespace {

using std::chrono::milliseconds;

/** Time between two changes of the line on a terminal. */
constexpr milliseconds redraw(100);

/** Time between two lines elsewhere. */
constexpr milliseconds between_lines(2000);

}  // namespace

Progress::Progress(std::string what, std::uint64_t total, ReportArgs how, std::optional<std::uint64_t> every)
    : what_(std::move(what)), total_(total), every_(every), silent_(how.json_output), terminal_(has_terminal()) {}

Progress::~Progress() { clear_progress(); }

std::string Progress::counts(const Tally& tally) const {
    std::string text = what_ + ": " + std::to_string(tally.frames);
    if (total_ > 0) text += " of " + std::to_string(total_);
    return text + (tally.frames == 1 && total_ == 0 ? " frame, " : " frames, ") + human(tally.bytes);
}

void Progress::show(const Tally& tally) {
    if (silent_) return;
    const auto now = tally.ended.value_or(Tally::Clock::now());
    last_frame_ = now;
    const auto passed = now - last_;
    if (!terminal_ && every_) {
        if (*every_ == 0 || tally.frames % *every_ != 0) return;
    } else if (passed < (terminal_ ? redraw : between_lines)) {
        return;
    }
    const double seconds = std::max(std::chrono::duration<double>(passed).count(), 1e-9);
    const double rate = static_cast<double>(tally.bytes - last_bytes_) / mib / seconds;
    last_ = now;
    last_bytes_ = tally.bytes;
    const std::string line = counts(tally) + ", " + fixed(rate, 1) + " MiB/s";
    if (terminal_) {
        show_progress(line);
    } else {
        tell(line);
    }
}

void Progress::wait(const Tally& tally, const std::string& what) {
    const auto now = Tally::Clock::now();
    if (silent_ || !terminal_ || now - last_ < redraw) return;
    last_ = now;
    last_bytes_ = tally.bytes;
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now - last_frame_).count();
    const std::string start = tally.frames > 0 ? counts(tally) + ", " : what_ + ": ";
    show_progress(start + "waiting for " + what + ", " + std::to_string(seconds) + " s");
}

}  // namespace cli
