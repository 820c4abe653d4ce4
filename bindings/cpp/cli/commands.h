// The commands; each returns its exit code.
#ifndef ZEROBUFFER_CLI_COMMANDS_H
#define ZEROBUFFER_CLI_COMMANDS_H

#include "args.h"
#include "exit.h"
#include "report.h"

#include <zerobuffer/config.h>

#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <utility>

namespace cli {

int run(const WriterArgs& args);
int run(const ReaderArgs& args);
int run(const RelayArgs& args);

/** Does a command's work, and enters into its report how that ended; returns the exit code. `otherwise` is for the unforeseen. */
template <typename Work>
int reported(Report& report, int otherwise, Work&& work) {
    try {
        std::forward<Work>(work)();
        return exits::ok;
    } catch (const Failure& failure) {
        return report.enter(failure.code(), failure.what());
    } catch (const std::exception& error) {
        return report.enter(otherwise, error.what());
    }
}

/** Contains only the sizes that were given: a buffer that a relay has kept for this reader has its sizes already. */
inline zerobuffer::BufferConfig config(const RingArgs& args) {
    zerobuffer::BufferConfig config;
    if (args.buffer_size) config.set_payload_size(*args.buffer_size);
    if (args.metadata_size) config.set_metadata_size(*args.metadata_size);
    if (args.mode) config.set_mode(*args.mode);
    config.set_numa_node(args.numa_node).set_huge_pages(args.huge_pages);
    return config.set_classic(args.classic).set_preallocate(args.preallocate).set_allow_payload_sharing(true);
}

/** A number of frames, in words. */
inline std::string frames(std::uint64_t count) { return std::to_string(count) + (count == 1 ? " frame" : " frames"); }

/** Reports a buffer that has been created. */
void tell_of_buffer(const std::string& name);

/** Reports the writers of a buffer that is read. */
class Arrivals {
public:
    explicit Arrivals(std::string name) : name_(std::move(name)) {}

    /** A frame has come. */
    void frame();

    /** The writer has ended. */
    void end() { writing_ = false; }

    /** What comes next. */
    [[nodiscard]] const char* awaited() const { return writing_ ? "a frame" : "a writer"; }

private:
    std::string name_;
    bool writing_ = false;
};

}  // namespace cli

#endif
