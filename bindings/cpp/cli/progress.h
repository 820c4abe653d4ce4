// Progress while a command runs: one line that changes on a terminal, lines otherwise, nothing beside JSON.
#ifndef ZEROBUFFER_CLI_PROGRESS_H
#define ZEROBUFFER_CLI_PROGRESS_H

#include "args.h"
#include "report.h"

#include <cstdint>
#include <optional>
#include <string>

namespace cli {

class Progress {
public:
    /** `every`: frames between two lines where there is no terminal; 0 for none; nothing for one every two seconds. */
    Progress(std::string what, std::uint64_t total, ReportArgs how, std::optional<std::uint64_t> every = std::nullopt);
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    /** Removes what is shown. */
    ~Progress();

    /** Shows how far the command is, if it is time to. */
    void show(const Tally& tally);

    /** Shows on a terminal what the command waits for. */
    void wait(const Tally& tally, const std::string& what);

private:
    [[nodiscard]] std::string counts(const Tally& tally) const;

    std::string what_;
    std::uint64_t total_;
    std::optional<std::uint64_t> every_;
    bool silent_;
    bool terminal_;
    Tally::Clock::time_point last_ = Tally::Clock::now();
    Tally::Clock::time_point last_frame_ = last_;
    std::uint64_t last_bytes_ = 0;
};

}  // namespace cli

#endif
