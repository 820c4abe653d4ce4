// Steps of duplex channels.
#pragma once

#include "step.h"

#include <zerobuffer/duplex.h>

#include <condition_variable>
#include <memory>
#include <mutex>

/** What handlers and callbacks have done. */
struct Events {
    std::mutex mutex;
    std::condition_variable changed;
    std::uint64_t started = 0;
    std::uint64_t ended = 0;
    std::uint64_t failed = 0;
    Buffer init;
};

class Channels final : public Player {
public:
    bool play(const std::string& verb, const Json& step, Json& answer) override;
    void reset() override;

private:
    zerobuffer::IDuplexClient& client();
    zerobuffer::IDuplexServer& server();
    void serve(const Json& step);
    void dial(const Json& step);
    Json handled(const Json& step);
    Json request(const Json& step);
    Json response(const Json& step);

    std::unique_ptr<zerobuffer::IImmutableDuplexServer> immutable_;
    std::unique_ptr<zerobuffer::IMutableDuplexServer> mutable_;
    std::unique_ptr<zerobuffer::IDuplexClient> client_;
    std::shared_ptr<Events> events_ = std::make_shared<Events>();
};
