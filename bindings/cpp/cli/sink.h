// The output of a reader's frames. A thread writes them, so that a stalled pipe cannot keep the reader from ending.
#ifndef ZEROBUFFER_CLI_SINK_H
#define ZEROBUFFER_CLI_SINK_H

#include "stop.h"

#include <zerobuffer/frame.h>

#include <memory>
#include <string>

namespace cli {

class Sink {
public:
    /** Opens a file, or standard output (-); waits for the reader of a FIFO. Throws Failure. */
    Sink(const std::string& path, const Stop& stop);

    /** Hands over a frame; waits while too many are under way. Returns false if the end is requested or the output has failed. */
    bool put(std::shared_ptr<const zerobuffer::Frame> frame, const Stop& stop);

    /** Waits until everything is written; for an interrupted reader only a moment. Throws Failure. */
    void finish(const Stop& stop);

private:
    struct Queue;

    std::string path_;
    std::shared_ptr<Queue> queue_;
};

}  // namespace cli

#endif
