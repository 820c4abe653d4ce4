// Where a reader's frames go: a thread writes them out, so that a stalled pipe can never keep the reader from ending.
#ifndef ZEROBUFFER_CLI_SINK_H
#define ZEROBUFFER_CLI_SINK_H

#include "stop.h"

#include <zerobuffer/frame.h>

#include <memory>
#include <string>

namespace cli {

class Sink {
public:
    /** Opens a file, or standard output (-). Throws Failure. */
    explicit Sink(const std::string& path);

    /** Hands over a frame, waiting while too many are under way. Says whether it could, rather than to be stopped or to find the
     * output failed. */
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
