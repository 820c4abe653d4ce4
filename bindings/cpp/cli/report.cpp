#include "report.h"

#include "exit.h"
#include "output.h"

#include <zerobuffer/logging.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cstdio>

namespace cli {
namespace {

const char* level_name(zerobuffer::LogLevel level) {
    switch (level) {
        case zerobuffer::LogLevel::error: return "error";
        case zerobuffer::LogLevel::warn: return "warn";
        case zerobuffer::LogLevel::info: return "info";
        case zerobuffer::LogLevel::debug: return "debug";
        default: return "trace";
    }
}

/** What the command did to frames, and the name of their number. */
struct Words {
    const char* done;
    const char* count;
};

Words words(const std::string& operation) {
    if (operation == "write") return {"wrote", "frames_written"};
    if (operation == "read") return {"read", "frames_read"};
    return {"relayed", "frames_relayed"};
}

}  // namespace

std::string fixed(double value, int decimals) {
    std::array<char, 64> text{};
    std::snprintf(text.data(), text.size(), "%.*f", decimals, value);
    return text.data();
}

std::string human(std::uint64_t bytes) {
    if (bytes < 1024) return std::to_string(bytes) + " B";
    auto value = static_cast<double>(bytes);
    std::string unit;
    for (const char* next : {"KiB", "MiB", "GiB", "TiB"}) {
        if (value < 1024) break;
        value /= 1024;
        unit = next;
    }
    return fixed(value, 1) + " " + unit;
}

void show_log(bool verbose) {
    zerobuffer::set_log_handler(
        [](zerobuffer::LogLevel level, std::string_view, std::string_view message) {
            tell(std::string("zerobuffer: ") + level_name(level) + ": " + std::string(message));
        },
        verbose ? zerobuffer::LogLevel::debug : zerobuffer::LogLevel::warn);
    set_verbose(verbose);
}

void Tally::start() {
    if (!started) started = Clock::now();
}

void Tally::count(std::size_t size) {
    ++frames;
    bytes += size;
    largest = std::max<std::uint64_t>(largest, size);
    ended = Clock::now();
}

double Tally::seconds() const {
    if (!started || !ended) return 0;
    return std::max(0.0, std::chrono::duration<double>(*ended - *started).count());
}

int Report::enter(int code, const std::string& message) {
    if (code == exits::interrupted) {
        interrupted = true;
        inform("ended by a signal");
    } else {
        complain(message);
        errors.push_back(message);
    }
    return code;
}

void Report::finish(const Tally& tally, ReportArgs how, bool to_stderr) const {
    if (how.json_output) {
        say_json(json(tally), to_stderr);
    } else if (to_stderr) {
        tell(summary(tally));
    } else {
        say(summary(tally));
    }
}

std::string Report::json(const Tally& tally) const {
    nlohmann::ordered_json object;
    const auto put = [&object](const char* name, const auto& value) {
        if (value) object[name] = *value;
    };
    object["operation"] = operation;
    put("buffer_name", buffer_name);
    put("input_buffer", input_buffer);
    put("output_buffer", output_buffer);
    object[words(operation).count] = tally.frames;
    put("frames_skipped", frames_skipped);
    object["bytes"] = tally.bytes;
    object["frame_size"] = frame_size;
    object["metadata_size"] = metadata_size;
    const double seconds = tally.seconds();
    object["duration_seconds"] = seconds;
    object["throughput_mbps"] = seconds > 0 ? static_cast<double>(tally.bytes) / mib / seconds : 0.0;
    put("verification_errors", verification_errors);
    if (checksums) {
        object["checksums"] = {{"algorithm", checksum_algorithm}, {"stream", checksums->stream}, {"frames", checksums->frames}};
    }
    put("transform", transform);
    put("metadata_relayed", metadata_relayed);
    put("frames_shared", frames_shared);
    put("frames_copied", frames_copied);
    put("frames_lost", frames_lost);
    object["interrupted"] = interrupted;
    object["errors"] = errors;
    return object.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

std::string Report::summary(const Tally& tally) const {
    const double seconds = tally.seconds();
    std::string text = words(operation).done;
    text += " " + std::to_string(tally.frames) + (tally.frames == 1 ? " frame" : " frames");
    text += ", " + human(tally.bytes) + ", in " + fixed(seconds, 3) + " s";
    if (seconds > 0) {
        text += ": " + fixed(static_cast<double>(tally.bytes) / mib / seconds, 1) + " MiB/s, ";
        text += fixed(static_cast<double>(tally.frames) / seconds, 0) + " frames/s";
    }
    if (frames_skipped) text += "; " + std::to_string(*frames_skipped) + " passed over";
    if (verification_errors.value_or(0) > 0) text += "; " + std::to_string(*verification_errors) + " FAILED verification";
    if (metadata_relayed.value_or(false)) text += "; " + std::to_string(metadata_size) + " bytes of metadata relayed";
    if (frames_shared.value_or(0) > 0) {
        text += "; " + std::to_string(*frames_shared) + " shared, " + std::to_string(frames_copied.value_or(0)) + " copied";
    }
    if (frames_lost.value_or(0) > 0) text += "; " + std::to_string(*frames_lost) + " LOST";
    if (checksums) text += std::string("; ") + checksum_algorithm + " " + checksums->stream;
    if (interrupted) text += "; interrupted";
    return text;
}

}  // namespace cli
