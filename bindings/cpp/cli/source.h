// Real data for a writer: a file or a pipe, read straight into shared memory.
#ifndef ZEROBUFFER_CLI_SOURCE_H
#define ZEROBUFFER_CLI_SOURCE_H

#include "stop.h"

#include <zerobuffer/writer.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace cli {

class Source {
public:
    /** Opens a file, or standard input (-); does not wait for the writer of a FIFO. Throws Failure. */
    explicit Source(const std::string& path);
    Source(const Source&) = delete;
    Source& operator=(const Source&) = delete;
    ~Source();

    /** Whether there is more. Waits until that is known. */
    bool has_more(const zerobuffer::Writer& writer, const Stop& stop, std::size_t size);

    /** Fills in the frame that `writer` has acquired. Returns the number of bytes. */
    std::size_t fill(const zerobuffer::Writer& writer, const Stop& stop, std::span<std::uint8_t> frame);

private:
    std::size_t read(const zerobuffer::Writer& writer, const Stop& stop, std::span<std::uint8_t> bytes);

    int file_;
    std::string what_;
    /** A pipe, a terminal or a socket, which can keep a read waiting. */
    bool can_block_ = false;
    /** Read ahead, so that the end of the data is known before space for another frame is asked for. */
    std::vector<std::uint8_t> ahead_;
};

}  // namespace cli

#endif
