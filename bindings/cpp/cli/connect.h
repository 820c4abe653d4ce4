// Connecting a writer, with patience that Ctrl-C can end.
#ifndef ZEROBUFFER_CLI_CONNECT_H
#define ZEROBUFFER_CLI_CONNECT_H

#include "stop.h"

#include <zerobuffer/writer.h>

#include <cstdint>
#include <string>

namespace cli {

/** Waits up to `timeout_ms` for the reader of `name`. A failure carries `code`, or `bad_arguments`. */
zerobuffer::Writer connect(const Stop& stop, const std::string& name, std::int64_t timeout_ms, int code, int bad_arguments);

}  // namespace cli

#endif
