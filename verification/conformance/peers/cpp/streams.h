// Steps of readers and writers.
#pragma once

#include "step.h"

#include <memory>
#include <mutex>
#include <optional>

class Streams final : public Player {
public:
    bool play(const std::string& verb, const Json& step, Json& answer) override;
    void reset() override;
    /** From another thread. */
    void interrupt(const std::string& of);

private:
    zerobuffer::Reader& reader();
    zerobuffer::Writer& writer();
    zerobuffer::Frame& held(const Json& step);
    zerobuffer::Frame next(const Json& step);
    Json read(const Json& step, bool hold);
    void receive(const Json& step);
    void send(const Json& step);
    void relay(const Json& step);
    Json forward(const Json& step);
    Json connected(const Json& step);
    Json counters();
    void close(const std::string& of);

    std::shared_ptr<zerobuffer::Reader> reader_;
    std::shared_ptr<zerobuffer::Writer> writer_;
    std::vector<zerobuffer::Frame> held_;
    /** Guards what interrupt() looks at. */
    std::mutex mutex_;
};
