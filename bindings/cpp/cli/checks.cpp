#include "checks.h"

#include "output.h"
#include "pattern.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <array>
#include <cstdio>
#include <vector>

namespace cli {
namespace {

/** Bytes expected per frame by default. */
constexpr std::size_t default_size = 1024;

/** The most wrong frames that are reported one by one. */
constexpr std::uint64_t told = 10;

std::string hex(std::uint64_t sum) {
    std::array<char, 17> text{};
    std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(sum));
    return text.data();
}

/** What is wrong with a frame, if anything is. */
std::optional<std::string> trouble(const zerobuffer::Frame& frame, std::uint64_t index, std::optional<std::size_t> size,
                                   std::optional<Pattern> pattern) {
    const std::string which = "frame " + std::to_string(index);
    if (size && *size != frame.size()) {
        return which + " has " + std::to_string(frame.size()) + " bytes, " + std::to_string(*size) + " were expected";
    }
    if (!pattern) return std::nullopt;
    const auto found = mismatch(*pattern, index, frame.span());
    if (!found) return std::nullopt;
    return which + " is wrong: byte " + std::to_string(found->at) + " is " + std::to_string(found->found) + ", " +
           std::to_string(found->expected) + " was expected";
}

}  // namespace

struct Checks::Sums {
    Sums() { XXH3_64bits_reset(&stream); }

    /** Aligned as the library wants it. */
    XXH3_state_t stream;
    std::vector<std::string> frames;
};

Checks::Checks(const ReaderArgs& args)
    : pattern_(args.verify),
      sums_(args.checksum ? std::make_unique<Sums>() : nullptr),
      print_(!args.report.json_output),
      to_stderr_(args.data_on_stdout()) {
    if (!args.size && pattern_) size_ = default_size;
    if (args.size && *args.size > 0) size_ = args.size;
}

Checks::~Checks() = default;

void Checks::check(const zerobuffer::Frame& frame) {
    // The first frame of a writer has the number 1.
    const std::uint64_t index = frame.sequence() - 1;
    if (const auto what = trouble(frame, index, size_, pattern_)) {
        ++wrong_;
        if (wrong_ <= told) complain(*what);
        if (wrong_ == told) complain("further wrong frames are only counted");
    }
    if (sums_) {
        XXH3_64bits_update(&sums_->stream, frame.data(), frame.size());
        const std::string sum = hex(XXH3_64bits(frame.data(), frame.size()));
        const std::string line =
            "frame " + std::to_string(index) + ": " + std::to_string(frame.size()) + " bytes, " + checksum_algorithm + " " + sum;
        if (!print_) {
            sums_->frames.push_back(sum);
        } else if (to_stderr_) {
            tell(line);
        } else {
            say(line);
        }
    }
}

std::optional<Checksums> Checks::checksums() const {
    if (!sums_) return std::nullopt;
    return Checksums{hex(XXH3_64bits_digest(&sums_->stream)), sums_->frames};
}

}  // namespace cli
