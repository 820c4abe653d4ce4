#include "duplex.h"

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <string_view>
#include <thread>

using namespace zerobuffer;

namespace {

bool is_order(const Frame& request, std::string_view order) {
    return std::ranges::equal(request.span(), order);
}

/** The handler's part that both kinds have: orders. */
void obey(const Frame& request, Events& events) {
    {
        const std::lock_guard lock(events.mutex);
        ++events.started;
    }
    events.changed.notify_all();
    if (is_order(request, "!wait")) {
        // Until it is cancelled. A handler is not told; it has to ask.
        const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        while (!request.is_cancelled() && std::chrono::steady_clock::now() < limit) {
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
    }
    {
        const std::lock_guard lock(events.mutex);
        ++events.ended;
    }
    events.changed.notify_all();
    if (is_order(request, "!fail")) throw std::runtime_error("as ordered");
    if (is_order(request, "!die")) raise(SIGKILL);
}

}  // namespace

IDuplexClient& Channels::client() {
    if (!client_) throw StepError("BadStep", "there is no client");
    return *client_;
}

IDuplexServer& Channels::server() {
    if (immutable_) return *immutable_;
    if (mutable_) return *mutable_;
    throw StepError("BadStep", "there is no server");
}

void Channels::reset() {
    client_.reset();
    immutable_.reset();
    mutable_.reset();
    events_ = std::make_shared<Events>();
}

void Channels::serve(const Json& step) {
    auto& factory = IDuplexChannelFactory::getInstance();
    const std::string channel = step.value("channel", "");
    const auto mode = step.value("pool", false) ? ProcessingMode::thread_pool : ProcessingMode::single_thread;
    if (step.value("mutable", false)) {
        mutable_ = factory.createMutableServer(channel, config_of(step));
        mutable_->start(
            [events = events_](Frame& frame) {
                obey(frame, *events);
                for (std::uint8_t& byte : frame.mutable_span()) byte = static_cast<std::uint8_t>(~byte);
            },
            mode);
        return;
    }
    immutable_ = factory.createImmutableServer(channel, config_of(step));
    immutable_->onError([events = events_](const zerobuffer_exception&) {
        const std::lock_guard lock(events->mutex);
        ++events->failed;
        events->changed.notify_all();
    });
    immutable_->onInit([events = events_](std::span<const std::uint8_t> metadata) {
        const std::lock_guard lock(events->mutex);
        events->init.assign(metadata.begin(), metadata.end());
        events->changed.notify_all();
    });
    if (step.contains("threads")) immutable_->setPoolSize(step["threads"]);
    if (step.value("in_place", false)) {
        immutable_->startInPlace(
            [events = events_](const Frame& request, ResponseWriter& response) {
                const auto bytes = response.acquire(request.size());
                obey(request, *events);
                std::ranges::reverse_copy(request, bytes.begin());
                if (is_order(request, "!forget")) return;
                response.commit(is_order(request, "!empty") ? 0 : request.size());
            },
            mode);
        return;
    }
    immutable_->start(
        [events = events_](const Frame& request) {
            obey(request, *events);
            if (is_order(request, "!empty")) return Buffer{};
            Buffer reversed(request.begin(), request.end());
            std::ranges::reverse(reversed);
            return reversed;
        },
        mode);
}

void Channels::dial(const Json& step) {
    ClientOptions options;
    options.set_response_config(config_of(step));
    if (step.contains("connect_timeout_ms")) options.set_connect_timeout(timeout_of(step, "connect_timeout_ms"));
    client_ = IDuplexChannelFactory::getInstance().createClient(step.value("channel", ""), options);
}

Json Channels::handled(const Json& step) {
    std::unique_lock lock(events_->mutex);
    const auto reached = [&] {
        return events_->started >= step.value("started", std::uint64_t{0}) &&
               events_->ended >= step.value("ended", std::uint64_t{0}) &&
               events_->failed >= step.value("failed", std::uint64_t{0}) &&
               (!step.value("init", false) || !events_->init.empty());
    };
    if (!events_->changed.wait_for(lock, std::chrono::milliseconds(timeout_of(step)), reached)) {
        throw StepError("TooFew", std::to_string(events_->started) + " started, " + std::to_string(events_->ended) +
                                      " ended, " + std::to_string(events_->failed) + " failed");
    }
    return described(events_->init, 0);
}

Json Channels::request(const Json& step) {
    const Buffer bytes = bytes_of(step);
    if (!step.value("in_place", false)) return {{"sequence", client().sendRequest(bytes.data(), bytes.size())}};
    const auto [sequence, buffer] = client().acquireRequestBuffer(bytes.size());
    std::ranges::copy(bytes, buffer.begin());
    client().commitRequest();
    return {{"sequence", sequence}};
}

Json Channels::response(const Json& step) {
    const Frame frame = step.contains("to") ? client().receiveResponseTo(step["to"], timeout_of(step))
                                            : client().receiveResponse(timeout_of(step));
    // An empty response is valid only by its number.
    if (frame.sequence() == 0) return none();
    return described(frame.span(), frame.sequence());
}

bool Channels::play(const std::string& verb, const Json& step, Json& answer) {
    if (verb == "serve") {
        serve(step);
    } else if (verb == "stop") {
        server().stop();
    } else if (verb == "running") {
        answer = {{"running", server().isRunning()}};
    } else if (verb == "handled") {
        answer = handled(step);
    } else if (verb == "dial") {
        dial(step);
    } else if (verb == "call") {
        const Buffer bytes = bytes_of(step);
        const Frame frame = client().call(bytes.data(), bytes.size(), timeout_of(step));
        answer = described(frame.span(), frame.sequence());
    } else if (verb == "request") {
        answer = request(step);
    } else if (verb == "response") {
        answer = response(step);
    } else if (verb == "cancel") {
        answer = {{"cancelled", client().cancelRequest(step.value("sequence", std::uint64_t{0}))}};
    } else if (verb == "server_connected") {
        answer = {{"connected", client().isServerConnected()}};
    } else if (verb == "describe") {
        const Buffer bytes = bytes_of(step);
        client().setMetadata(bytes.data(), bytes.size());
    } else if (verb == "hang_up") {
        client().close();
        client_.reset();
    } else {
        return false;
    }
    return true;
}
