// The checks of each frame: its size, its bytes, its checksum.
#ifndef ZEROBUFFER_CLI_CHECKS_H
#define ZEROBUFFER_CLI_CHECKS_H

#include "args.h"
#include "report.h"

#include <zerobuffer/frame.h>

#include <cstdint>
#include <memory>
#include <optional>

namespace cli {

class Checks {
public:
    explicit Checks(const ReaderArgs& args);
    ~Checks();
    Checks(const Checks&) = delete;
    Checks& operator=(const Checks&) = delete;

    /** Checks a frame, and reports the first few wrong ones. */
    void check(const zerobuffer::Frame& frame);

    /** Frames that were wrong. */
    [[nodiscard]] std::uint64_t wrong() const noexcept { return wrong_; }

    /** The checksums, if they were asked for. */
    [[nodiscard]] std::optional<Checksums> checksums() const;

private:
    struct Sums;

    std::optional<Pattern> pattern_;
    /** Nothing for any size. */
    std::optional<std::size_t> size_;
    std::uint64_t wrong_ = 0;
    std::unique_ptr<Sums> sums_;
    /** Checksums are printed as they come. */
    bool print_;
    /** On standard error, as standard output has the data. */
    bool to_stderr_;
};

}  // namespace cli

#endif
