// The commands; each gives its exit code.
#ifndef ZEROBUFFER_CLI_COMMANDS_H
#define ZEROBUFFER_CLI_COMMANDS_H

#include "args.h"
#include "exit.h"
#include "report.h"

#include <zerobuffer/config.h>

#include <exception>
#include <optional>

namespace cli {

int run(const WriterArgs& args);
int run(const ReaderArgs& args);
int run(const RelayArgs& args);

/** Does a command's work, and enters into its report how that ended; gives the exit code. `otherwise` is for the unforeseen. */
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

/** Only what was asked for: a buffer that a relay has kept for us has its sizes already. */
inline zerobuffer::BufferConfig config(std::optional<std::size_t> buffer_size, std::optional<std::size_t> metadata_size,
                                       bool classic) {
    zerobuffer::BufferConfig config;
    if (buffer_size) config.set_payload_size(*buffer_size);
    if (metadata_size) config.set_metadata_size(*metadata_size);
    return config.set_classic(classic);
}

}  // namespace cli

#endif
