// Connecting a writer; Ctrl-C ends the wait for the reader.
#ifndef ZEROBUFFER_CLI_CONNECT_H
#define ZEROBUFFER_CLI_CONNECT_H

#include "progress.h"
#include "stop.h"

#include <zerobuffer/writer.h>

#include <cstdint>
#include <string>

namespace cli {

/** Waits up to `timeout_ms` for the reader of `name`. A failure carries `code`, or `bad_arguments`. */
zerobuffer::Writer connect(const Stop& stop, const std::string& name, std::int64_t timeout_ms, int code, int bad_arguments,
                           Progress& progress, const Tally& tally);

}  // namespace cli

#endif
