// Duplex channels: handlers of every kind, owners that never dangle, exceptions on both sides, clients on many threads.
#include <doctest/doctest.h>
#include <zerobuffer/zerobuffer.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <future>
#include <numeric>
#include <thread>

#include "support.h"

using namespace zerobuffer;
using support::Name;
using support::patience;

namespace {

IDuplexChannelFactory& factory() { return IDuplexChannelFactory::getInstance(); }

BufferConfig medium() { return {4096, 32 << 20}; }

std::unique_ptr<IDuplexClient> client_of(const Name& name) {
    return factory().createClient(name, ClientOptions().set_connect_timeout(patience).set_response_config(medium()));
}

std::string text_of(const Frame& frame) { return {frame.begin(), frame.end()}; }

std::string call(IDuplexClient& client, const std::string& text) {
    return text_of(client.call(text.data(), text.size(), patience));
}

/** Serves one request by `handler`, and returns the response. */
template <typename Handler>
std::string answer(Handler handler, const std::string& request) {
    const Name name("answer");
    auto server = factory().createImmutableServer(name, medium());
    server->start(std::move(handler));
    return call(*client_of(name), request);
}

/** Bytes that poison themselves when they are destroyed, so that a late read is noticed with or without a sanitizer. */
struct Poisoned {
    std::vector<std::uint8_t> bytes;
    explicit Poisoned(std::size_t size) : bytes(size, 0x11) {}
    Poisoned(const Poisoned&) = delete;
    Poisoned& operator=(const Poisoned&) = delete;
    Poisoned(Poisoned&&) = default;
    Poisoned& operator=(Poisoned&&) = delete;
    ~Poisoned() { std::fill(bytes.begin(), bytes.end(), std::uint8_t{0xdd}); }
    [[nodiscard]] const std::uint8_t* begin() const { return bytes.data(); }
    [[nodiscard]] const std::uint8_t* end() const { return bytes.data() + bytes.size(); }
};

}  // namespace

TEST_CASE("a handler may return any owner of bytes, which lives until they are in the response") {
    const auto reversed = [](const Frame& request) {
        std::vector<std::uint8_t> bytes(request.begin(), request.end());
        std::reverse(bytes.begin(), bytes.end());
        return bytes;
    };
    CHECK(answer(reversed, "abc") == "cba");
}

TEST_CASE("a handler may return strings, arrays, words, and bytes of its request") {
    CHECK(answer([](const Frame& request) { return text_of(request) + "!"; }, "abc") == "abc!");
    CHECK(answer([](const Frame& request) { return std::array{request.data()[0], std::uint8_t{'z'}}; }, "abc") == "az");
    CHECK(answer([](const Frame& request) { return request.span().subspan(1); }, "abc") == "bc");
    CHECK(answer([](const Frame&) { return std::string_view("static"); }, "abc") == "static");
    CHECK(answer([](const Frame&) { return std::vector<std::uint8_t>(); }, "abc").empty());
    const auto words = answer([](const Frame&) { return std::vector<std::uint32_t>{0x01020304, 0x05060708}; }, "abc");
    CHECK(words == std::string("\4\3\2\1\10\7\6\5", 8));
    std::vector<std::uint8_t> kept{'k', 'e', 'p', 't'};
    CHECK(answer([&kept](const Frame&) -> const std::vector<std::uint8_t>& { return kept; }, "abc") == "kept");
    CHECK(answer([own = std::make_unique<std::string>("moved")](const Frame&) { return *own; }, "abc") == "moved");
    const auto large = answer([](const Frame&) { return Poisoned(3'110'400); }, "abc");
    CHECK(large == std::string(3'110'400, '\x11'));
}

TEST_CASE("a handler can be called without a server") {
    const RequestHandler handler = [](const Frame& request) { return std::vector<std::uint8_t>(request.size() + 2, 5); };
    CHECK(handler(Frame::invalid()) == std::vector<std::uint8_t>{5, 5});
    static_assert(!std::is_constructible_v<RequestHandler, void (*)(const Frame&)>);
    static_assert(!std::is_constructible_v<RequestHandler, int (*)(const Frame&)>);
    static_assert(!std::is_constructible_v<RequestHandler, std::vector<std::string> (*)(const Frame&)>);
}

TEST_CASE("a handler may write its answer in place") {
    for (const auto mode : {ProcessingMode::single_thread, ProcessingMode::thread_pool}) {
        const Name name("in-place");
        auto server = factory().createImmutableServer(name, medium());
        server->startInPlace(
            [](const Frame& request, ResponseWriter& response) {
                const std::string text = text_of(request);
                if (text == "nothing") return;
                CHECK_THROWS_AS(response.commit(), invalid_state_exception);
                CHECK_THROWS_AS((void)response.acquire(1U << 30U), frame_too_large_exception);
                const std::span<std::uint8_t> bytes = response.acquire(request.size() + 5);
                CHECK_THROWS_AS((void)response.acquire(1), invalid_state_exception);
                CHECK_THROWS_AS(response.write("x", 1), invalid_state_exception);
                CHECK_THROWS_AS(response.commit(request.size() + 6), invalid_frame_size_exception);
                std::ranges::reverse_copy(request, bytes.begin());
                if (text == "forget") return;
                if (text == "throw") throw std::runtime_error("no such picture");
                if (text == "none") return response.commit(0);
                if (text == "copy") {
                    response.discard();
                    return response.write(request.span());
                }
                if (text == "whole") {
                    std::ranges::fill(bytes, std::uint8_t{'w'});
                    return response.commit();
                }
                response.commit(request.size());
                CHECK_THROWS_AS((void)response.acquire(1), invalid_state_exception);
            },
            mode);
        auto client = client_of(name);
        const std::string large(3'110'400, 'x');
        for (int round = 0; round < 3; ++round) {
            CHECK(call(*client, "abc") == "cba");
            CHECK(call(*client, large + "y") == "y" + large);
            CHECK(call(*client, "nothing").empty());
            CHECK(call(*client, "none").empty());
            CHECK(call(*client, "copy") == "copy");
            CHECK(call(*client, "whole") == "wwwwwwwwww");
            CHECK_THROWS_WITH_AS(call(*client, "throw"), doctest::Contains("no such picture"), request_failed_exception);
            CHECK_THROWS_WITH_AS(call(*client, "forget"), doctest::Contains("committed none"), request_failed_exception);
        }
    }
}

TEST_CASE("what a handler throws fails its request alone, with its words, and is told to onError") {
    const Name name("throws");
    auto server = factory().createImmutableServer(name, medium());
    std::promise<std::string> told;
    server->onError([&](const zerobuffer_exception& error) {
        CHECK(error.code() == ErrorCode::request_failed);
        told.set_value(error.what());
        throw std::runtime_error("and this goes nowhere");
    });
    server->start([](const Frame& request) -> std::string {
        const std::string text = text_of(request);
        if (text == "throw") throw std::runtime_error("no such picture");
        if (text == "strange") throw 42;  // NOLINT: that is what is tested
        return text;
    });
    auto client = client_of(name);
    std::uint64_t sequence = client->sendRequest("throw", 5);
    try {
        (void)client->receiveResponse(patience);
        FAIL("no exception");
    } catch (const request_failed_exception& error) {
        CHECK(std::string(error.what()).find("no such picture") != std::string::npos);
        CHECK(error.sequence() == sequence);
    }
    CHECK(told.get_future().get().find("no such picture") != std::string::npos);
    CHECK(call(*client, "fine") == "fine");
    server->onError([](const zerobuffer_exception&) {});
    CHECK_THROWS_WITH_AS((void)client->call("strange", 7, patience), doctest::Contains("no std::exception"),
                         request_failed_exception);
    CHECK(call(*client, "fine") == "fine");
}

TEST_CASE("a mutable server changes requests in place; a moved request is invalid, the original stays") {
    const Name name("mutable");
    auto server = factory().createMutableServer(name, medium());
    Frame stolen;
    server->start(
        [&](Frame& request) {
            if (request.size() == 1) throw std::runtime_error("too small");
            CHECK(request.mutable_data() == request.data());
            stolen = std::move(request);
            CHECK_FALSE(stolen.valid());
            request.release();  // NOLINT(bugprone-use-after-move): that is what is tested
            CHECK_FALSE(request.is_cancelled());
            CHECK(request.time_left().has_value());
            for (auto& byte : request.mutable_span()) byte ^= 0xffU;
        },
        ProcessingMode::thread_pool);
    auto client = client_of(name);
    std::vector<std::uint8_t> request(3'110'400);
    support::fill(1, request.data(), request.size());
    const Frame response = client->call(request.data(), request.size(), patience);
    for (auto& byte : request) byte ^= 0xffU;
    CHECK(std::equal(request.begin(), request.end(), response.begin(), response.end()));
    CHECK_THROWS_AS((void)client->call("x", 1, patience), request_failed_exception);
    CHECK(Frame().mutable_span().empty());
}

TEST_CASE("requests are filled in place, on one thread at a time") {
    const Name name("place");
    auto server = factory().createImmutableServer(name, medium());
    server->start([](const Frame& request) { return request.span(); });
    auto client = client_of(name);
    CHECK(client->channel() == name.str());
    auto [sequence, place] = client->acquireRequestBuffer(5);
    CHECK_THROWS_AS(client->acquireRequestBuffer(5), invalid_state_exception);
    CHECK_THROWS_AS(client->sendRequest("x", 1), invalid_state_exception);
    std::thread([&] { CHECK_THROWS_AS(client->commitRequest(), invalid_state_exception); }).join();
    std::copy_n("place", 5, place.begin());
    client->commitRequest();
    CHECK_THROWS_AS(client->commitRequest(), invalid_state_exception);
    const Frame response = client->receiveResponseTo(sequence, patience);
    CHECK(text_of(response) == "place");
    CHECK(response.sequence() == sequence);
    CHECK_THROWS_AS((void)client->receiveResponseTo(sequence, 0), invalid_state_exception);
    (void)client->acquireRequestBuffer(5);
    client->discardRequest();
    std::copy_n("again", 5, client->acquireRequestBuffer(5).second.begin());
    CHECK(text_of(client->callAcquired(patience)) == "again");
    CHECK_FALSE(client->receiveResponse(0).valid());
    CHECK_THROWS_AS(client->sendRequest(nullptr, 0), invalid_frame_size_exception);
    const std::vector<std::uint8_t> large(64 << 20);
    CHECK_THROWS_AS(client->sendRequest(large.data(), large.size()), frame_too_large_exception);
}

TEST_CASE("any number of threads share one client, and each gets its own response") {
    const Name name("threads");
    auto server = factory().createImmutableServer(name, medium());
    server->setPoolSize(4);
    server->start(
        [](const Frame& request) { return std::vector<std::uint8_t>(request.begin(), request.end()); },
        ProcessingMode::thread_pool);
    auto client = client_of(name);
    std::atomic<int> good = 0;
    std::vector<std::thread> threads;
    constexpr int per_thread = 300;
    for (unsigned thread = 0; thread < 4; ++thread) {
        threads.emplace_back([&, thread] {
            for (unsigned round = 0; round < per_thread; ++round) {
                const auto number = std::uint64_t{thread} << 32U | round;
                std::vector<std::uint8_t> request(1 + round * 13 % 5000);
                support::fill(number, request.data(), request.size());
                const Frame response = client->call(request.data(), request.size(), patience);
                good += response.size() == request.size() && support::is_filled(number, response.data(), response.size());
            }
        });
    }
    // Two more that only send, and one that receives what they sent.
    constexpr int sent_each = 200;
    for (int thread = 0; thread < 2; ++thread) {
        threads.emplace_back([&] {
            for (int round = 0; round < sent_each; ++round) client->sendRequest("sent", 4);
        });
    }
    int received = 0;
    while (received < 2 * sent_each) {
        const Frame response = client->receiveResponse(patience);
        REQUIRE(response.valid());
        CHECK(text_of(response) == "sent");
        ++received;
    }
    for (auto& thread : threads) thread.join();
    CHECK(good == 4 * per_thread);
}

TEST_CASE("a cancelled request and one whose time is over have their own exceptions, and the handler can see it") {
    const Name name("cancel");
    auto server = factory().createImmutableServer(name, medium());
    std::promise<void> entered;
    std::promise<bool> saw;
    server->start([&](const Frame& request) -> std::string {
        if (request.size() == 4) {
            entered.set_value();
            while (!request.is_cancelled()) std::this_thread::yield();
            saw.set_value(true);
        }
        return "done";
    });
    auto client = client_of(name);
    const auto sequence = client->sendRequest("wait", 4);
    entered.get_future().wait();
    // Behind the busy handler: it will not be started in time.
    client->sendRequestWithin("late!", 5, 1);
    // Its time is to be over before the handler makes room for it, also by the coarse clock that servers look at (10 ms).
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    CHECK(client->cancelRequest(sequence));
    CHECK_THROWS_AS((void)client->receiveResponse(patience), cancelled_exception);
    CHECK(saw.get_future().get());
    CHECK_THROWS_AS((void)client->receiveResponse(patience), deadline_exceeded_exception);
    CHECK_FALSE(client->cancelRequest(sequence));
    CHECK(call(*client, "next!") == "done");
}

TEST_CASE("a server stops promptly, with a busy handler too, and starts again") {
    const Name name("stop");
    auto server = factory().createImmutableServer(name, medium());
    CHECK_FALSE(server->isRunning());
    std::promise<void> entered;
    std::atomic<bool> may_end = false;
    auto alive = std::make_shared<int>(0);
    const std::weak_ptr<int> handler_lives = alive;
    server->start([&entered, &may_end, alive = std::move(alive)](const Frame&) -> std::string {
        entered.set_value();
        while (!may_end) std::this_thread::yield();
        return "too late";
    });
    CHECK(server->isRunning());
    CHECK(server->channel() == name.str());
    CHECK_THROWS_AS(server->start([](const Frame&) { return std::string(); }), invalid_state_exception);
    auto client = client_of(name);
    CHECK(client->isServerConnected());
    CHECK_THROWS_AS(client_of(name), writer_already_connected_exception);
    client->sendRequest("x", 1);
    entered.get_future().wait();
    CHECK_THROWS_AS(server->stop(), handler_busy_exception);
    CHECK_FALSE(handler_lives.expired());
    CHECK_THROWS_AS((void)client->receiveResponse(patience), zerobuffer_exception);
    CHECK_FALSE(client->isServerConnected());
    may_end = true;
    // The handler's thread ends by itself, and the handler goes with it.
    while (!handler_lives.expired()) std::this_thread::yield();
    CHECK_FALSE(server->isRunning());
    client.reset();
    server->start([](const Frame&) { return std::string("again"); });
    CHECK(call(*client_of(name), "x") == "again");
    server->stop();
    server.reset();
    CHECK(name.left().empty());
}

TEST_CASE("the server learns who its clients are, and outlives them") {
    const Name name("init");
    auto server = factory().createImmutableServer(name, medium());
    std::vector<std::string> clients;
    server->onInit([&](std::span<const std::uint8_t> metadata) { clients.emplace_back(metadata.begin(), metadata.end()); });
    server->start([](const Frame& request) { return request.span(); });
    for (const std::string who : {"first", "second"}) {
        auto client = client_of(name);
        client->setMetadata(who.data(), who.size());
        CHECK_THROWS_AS(client->setMetadata("x", 1), metadata_already_written_exception);
        CHECK(call(*client, "x") == "x");
    }
    server->stop();
    CHECK(clients == std::vector<std::string>{"first", "second"});
}

TEST_CASE("the end of a channel is told to every waiting thread: close, stop, and a kill") {
    const Name name("ends");
    CHECK_THROWS_AS(factory().createClient(name), buffer_not_found_exception);
    {
        support::Process server({support::self(), "role-server", name});
        CHECK(server.line() == "running");
        auto client = client_of(name);
        CHECK(call(*client, "x") == "x");
        auto waiting = std::async(std::launch::async, [&] { (void)client->receiveResponse(forever); });
        server.kill();
        CHECK_THROWS_AS(waiting.get(), zerobuffer_exception);
        CHECK_THROWS_AS(client->sendRequest("x", 1), zerobuffer_exception);
    }
    auto server = factory().createImmutableServer(name, medium());
    server->start([](const Frame& request) { return request.span(); });
    auto client = client_of(name);
    const Frame kept = client->call("kept", 4, patience);
    auto waiting = std::async(std::launch::async, [&] { (void)client->receiveResponse(forever); });
    client->close();
    CHECK_THROWS_AS(waiting.get(), closed_exception);
    CHECK_THROWS_AS(client->sendRequest("x", 1), closed_exception);
    client.reset();
    CHECK(text_of(kept) == "kept");
}
