// The summary at the end of a command: a line, or a JSON object.
#ifndef ZEROBUFFER_CLI_REPORT_H
#define ZEROBUFFER_CLI_REPORT_H

#include "args.h"

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace cli {

inline constexpr double mib = 1024.0 * 1024.0;

/** A number with so many decimals. */
[[nodiscard]] std::string fixed(double value, int decimals);

/** A number of bytes in a readable unit. */
[[nodiscard]] std::string human(std::uint64_t bytes);

/** Shows the library's log: warnings always, the rest if `verbose`. */
void show_log(bool verbose);

/** Counts frames, bytes and the time that they took. */
class Tally {
public:
    using Clock = std::chrono::steady_clock;

    /** Starts the clock, unless it runs. */
    void start();

    /** Counts a frame that is done with. */
    void count(std::size_t size);

    [[nodiscard]] double seconds() const;

    std::uint64_t frames = 0;
    std::uint64_t bytes = 0;
    std::uint64_t largest = 0;
    std::optional<Clock::time_point> started;
    std::optional<Clock::time_point> ended;
};

struct Checksums {
    /** Of all frames' bytes one after the other. */
    std::string stream;
    /** Of each frame, in the order of arrival. */
    std::vector<std::string> frames;
};

inline constexpr const char* checksum_algorithm = "xxh3-64";

/** What `--json-output` prints; fields that do not apply are left out. */
struct Report {
    /** The object's first field: write, read or relay. */
    std::string operation;
    std::optional<std::string> buffer_name = std::nullopt;
    std::optional<std::string> input_buffer = std::nullopt;
    std::optional<std::string> output_buffer = std::nullopt;
    std::optional<std::uint64_t> frames_skipped = std::nullopt;
    std::uint64_t frame_size = 0;
    std::uint64_t metadata_size = 0;
    std::optional<std::uint64_t> verification_errors = std::nullopt;
    std::optional<Checksums> checksums = std::nullopt;
    std::optional<std::string> transform = std::nullopt;
    std::optional<bool> metadata_relayed = std::nullopt;
    std::optional<std::uint64_t> frames_shared = std::nullopt;
    std::optional<std::uint64_t> frames_copied = std::nullopt;
    std::optional<std::uint64_t> frames_lost = std::nullopt;
    bool interrupted = false;
    std::vector<std::string> errors = {};

    /** Enters why the command ended early, and prints it; returns the exit code. */
    int enter(int code, const std::string& message);

    /** Prints the summary. */
    void finish(const Tally& tally, ReportArgs how, bool to_stderr) const;

private:
    [[nodiscard]] std::string json(const Tally& tally) const;
    [[nodiscard]] std::string summary(const Tally& tally) const;
};

}  // namespace cli

#endif
