// What ends when: servers that are waited for, threads that end in the middle of a request, callbacks that replace each other,
// closed standard streams; and what a reader and a writer tell about themselves.
#include <doctest/doctest.h>
#include <zerobuffer/zerobuffer.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "support.h"

using namespace zerobuffer;
using support::Name;
using support::patience;

namespace {

BufferConfig medium() { return {4096, 1 << 20}; }

std::span<const std::uint8_t> echo(const Frame& request) { return request.span(); }

std::unique_ptr<DuplexClient> client_of(const Name& name) {
    return std::make_unique<DuplexClient>(name, ClientOptions().set_connect_timeout(patience).set_response_config(medium()));
}

void call(IDuplexClient& client) {
    const Frame response = client.call("ping", 4, patience);
    CHECK(std::string(response.begin(), response.end()) == "ping");
}

/** Runs a function when the last copy of it goes, as a captured object of the user's can. */
struct AtTheEnd {
    std::shared_ptr<void> at_the_end;
    explicit AtTheEnd(std::function<void()> function)
        : at_the_end(nullptr, [function = std::move(function)](void*) { function(); }) {}
};

template <typename Server, typename Handler>
void waits(const Name& name, Handler handler) {
    Server server(name, medium());
    CHECK(server.wait());
    server.start(handler);
    CHECK_FALSE(server.wait(0));
    CHECK_FALSE(server.wait(std::chrono::milliseconds(20)));
    auto ended = std::async(std::launch::async, [&] { return server.wait(); });
    server.stop();
    CHECK(ended.get());
    CHECK(server.wait(forever));
    IDuplexServer& by_interface = server;
    CHECK(by_interface.wait(0));
}

}  // namespace

TEST_CASE("wait returns when another thread has stopped the server, and not before") {
    waits<ImmutableDuplexServer>(Name("wait"), echo);
    waits<MutableDuplexServer>(Name("wait-mutable"), [](Frame&) {});
}

TEST_CASE("a handler cannot wait for its own server") {
    const Name name("wait-within");
    ImmutableDuplexServer server(name, medium());
    server.start([&](const Frame&) { return std::string(server.wait() ? "ended" : "runs"); });
    auto client = client_of(name);
    const Frame response = client->call("x", 1, patience);
    CHECK(std::string(response.begin(), response.end()) == "runs");
}

TEST_CASE("a pool has at most 1024 threads, and a client tells what fits into its buffer") {
    const Name name("sizes");
    ImmutableDuplexServer server(name, medium());
    CHECK_THROWS_AS(server.setPoolSize(1025), invalid_config_exception);
    server.setPoolSize(2);
    server.start(echo, ProcessingMode::thread_pool);
    auto client = client_of(name);
    CHECK(client->maxRequestSize() == (1 << 20) - 16);
    const std::vector<std::uint8_t> largest(client->maxRequestSize());
    CHECK(client->call(largest.data(), largest.size(), patience).size() == largest.size());
    const std::vector<std::uint8_t> larger(client->maxRequestSize() + 1);
    CHECK_THROWS_AS((void)client->call(larger.data(), larger.size(), patience), frame_too_large_exception);
}

TEST_CASE("what a thread acquired and did not commit before it ended is discarded") {
    const Name name("orphan");
    ImmutableDuplexServer server(name, medium());
    server.start(echo);
    auto client = client_of(name);
    for (int round = 0; round < 3; ++round) {
        std::thread([&] { client->acquireRequestBuffer(100).second[0] = 1; }).join();
        call(*client);
    }
}

TEST_CASE("a callback may set the next one when it goes") {
    const Name name("callbacks");
    ImmutableDuplexServer server(name, medium());
    std::atomic<int> gone = 0;
    const auto ends = [&] {
        ++gone;
        CHECK(server.isRunning() != server.wait(0));
        server.onError([](const zerobuffer_exception&) {});
        server.onInit([](std::span<const std::uint8_t>) {});
    };
    server.onError([end = AtTheEnd(ends)](const zerobuffer_exception&) {});
    server.onError([](const zerobuffer_exception&) {});
    CHECK(gone == 1);
    server.onInit([end = AtTheEnd(ends)](std::span<const std::uint8_t>) {});
    server.onInit([](std::span<const std::uint8_t>) {});
    CHECK(gone == 2);
    server.start(echo);
    CHECK_THROWS_AS(server.start([end = AtTheEnd(ends)](const Frame& request) { return request.span(); }), invalid_state_exception);
    CHECK(gone == 3);
    auto client = client_of(name);
    call(*client);
}

TEST_CASE("a buffer works where the standard streams are closed") {
    const Name name("streams");
    support::Process role({support::self(), "role-closed-streams", name});
    CHECK(role.wait() == 0);
    CHECK(name.left().empty());
}

TEST_CASE("a reader and a writer tell what they have done and what they hold") {
    const Name name("stats");
    Reader reader(name, BufferConfig(64, 4096));
    Writer writer(name);
    const std::vector<std::uint8_t> large(3000, 1);
    CHECK_FALSE(reader.stats().oldest_held.has_value());
    writer.write_frame(large.data(), large.size());
    CHECK_FALSE(writer.try_write_frame(large.data(), large.size()).has_value());
    writer.set_write_timeout(1);
    CHECK_THROWS_AS(writer.write_frame(large.data(), large.size()), buffer_full_exception);
    const WriterStats written = writer.stats();
    CHECK((written.frames_written == 1 && written.bytes_written == 3000 && written.waits == 1 && written.full == 2));

    Frame frame = reader.read_frame(patience);
    REQUIRE(frame.valid());
    CHECK_FALSE(reader.read_frame(1).valid());
    std::thread([&] {
        const ReaderStats read = reader.stats();
        CHECK((read.frames_read == 1 && read.bytes_read == 3000 && read.waits == 1));
        CHECK((read.frames_held == 1 && read.bytes_held >= 3000 && read.oldest_held == 1));
    }).join();
    frame.release();
    CHECK(reader.stats().frames_held == 0);
    reader.close();
    CHECK_THROWS_AS((void)reader.stats(), closed_exception);
}
