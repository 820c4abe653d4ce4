// Every option of every command, as the `zerobuffer` command has them.
#ifndef ZEROBUFFER_CLI_ARGS_H
#define ZEROBUFFER_CLI_ARGS_H

#include "pattern.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>

namespace cli {

struct ReportArgs {
    /** Print the summary as one JSON object, and nothing else. */
    bool json_output = false;
    /** Log what happens, on standard error. */
    bool verbose = false;
};

struct WriterArgs {
    std::string name;
    /** Frames to write; 0 for no limit. */
    std::optional<std::uint64_t> frames;
    std::size_t size = 1024;
    std::optional<std::string> metadata;
    std::optional<std::string> metadata_file;
    Pattern pattern = Pattern::sequential;
    /** Real data instead of a pattern: a file, or - for standard input. */
    std::optional<std::string> input;
    std::uint64_t delay_ms = 0;
    std::uint64_t batch_size = 1;
    std::int64_t timeout_ms = 5000;
    ReportArgs report;
};

/** The buffer that a command creates. */
struct RingArgs {
    std::optional<std::size_t> buffer_size;
    std::optional<std::size_t> metadata_size;
    std::optional<std::uint32_t> mode;
    bool preallocate = false;
    bool huge_pages = false;
    std::optional<std::int32_t> numa_node;
    bool classic = false;
};

struct ReaderArgs {
    std::string name;
    /** Frames to read; 0 for no limit. */
    std::uint64_t frames = 0;
    /** Bytes expected per frame; 0 accepts any. */
    std::optional<std::size_t> size;
    std::int64_t timeout_ms = 5000;
    std::optional<Pattern> verify;
    bool checksum = false;
    std::uint64_t batch_size = 1;
    RingArgs ring;
    std::optional<std::string> output;
    bool latest = false;
    bool keep = false;
    ReportArgs report;

    [[nodiscard]] bool data_on_stdout() const { return output == "-"; }
};

enum class Transform { none, reverse, xor_bytes };

struct RelayArgs {
    std::string input;
    std::string output;
    /** Frames to relay; 0 for no limit. */
    std::uint64_t frames = 0;
    bool create_output = false;
    RingArgs ring;
    std::int64_t timeout_ms = 5000;
    bool copy = false;
    Transform transform = Transform::none;
    std::uint8_t xor_key = 255;
    std::uint64_t log_interval = 100;
    ReportArgs report;
};

using Command = std::variant<WriterArgs, ReaderArgs, RelayArgs>;

/** What to do, or, when there is nothing left to do, the exit code: help was asked for, or the command line is bad. */
std::variant<Command, int> parse(int argc, char** argv);

}  // namespace cli

#endif
