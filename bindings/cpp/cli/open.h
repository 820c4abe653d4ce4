// Opens files that users name. Waits for a FIFO whose other end is not open yet; Ctrl-C ends the wait.
#ifndef ZEROBUFFER_CLI_OPEN_H
#define ZEROBUFFER_CLI_OPEN_H

#include "stop.h"

#include <cstddef>
#include <string>

namespace cli {

/** Opens a file, or standard input (-), for reading. Never waits. Throws Failure, with `code` if the system lacks a resource. */
int open_input(const std::string& option, const std::string& path, int code);

/** Opens a file, or standard output (-), for writing; waits for the reader of a FIFO. Throws Failure like open_input(). */
int open_output(const std::string& option, const std::string& path, int code, const Stop& stop);

/** Reads what open_input() has opened, to its end but no more than `most` bytes, and closes it. Throws Failure like open_input(). */
std::string read_all(int file, const std::string& option, const std::string& path, std::size_t most, int code, const Stop& stop);

}  // namespace cli

#endif
