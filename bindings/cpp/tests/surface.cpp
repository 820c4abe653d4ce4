// What the classes take and give: ends of streams, time-outs, kinds of bytes, odd sizes and names, and classes of the user's own.
#include <doctest/doctest.h>
#include <poll.h>
#include <zerobuffer/zerobuffer.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "support.h"

using namespace zerobuffer;
using namespace std::chrono_literals;
using support::Name;
using support::patience;

namespace {

BufferConfig small() { return {64, 4096}; }

bool says(const Frame& frame, std::string_view text) {
    return frame.valid() && std::string_view(reinterpret_cast<const char*>(frame.data()), frame.size()) == text;  // NOLINT
}

/** The interfaces as they were asked for: nothing but what every client, server and factory must have. */
class Client final : public IDuplexClient {
public:
    std::uint64_t sendRequest(const void* data, std::size_t size) override {
        sent_ = Frame::copy_of(data, size, 7);
        return 7;
    }
    std::pair<std::uint64_t, std::span<std::uint8_t>> acquireRequestBuffer(std::size_t size) override {
        buffer_.resize(size);
        return {7, buffer_};
    }
    void commitRequest() override { sendRequest(buffer_.data(), buffer_.size()); }
    Frame receiveResponse(int timeout_ms) override {
        waited = timeout_ms;
        return std::move(sent_);
    }
    bool isServerConnected() const override { return true; }

    int waited = 0;

private:
    Frame sent_;
    std::vector<std::uint8_t> buffer_;
};

class ImmutableServer final : public IImmutableDuplexServer {
public:
    void stop() override { running_ = false; }
    bool isRunning() const override { return running_; }
    void start(RequestHandler handler, ProcessingMode) override {
        answer = handler(Frame::copy_of("request"));
        running_ = true;
    }

    std::vector<std::uint8_t> answer;

private:
    bool running_ = false;
};

class MutableServer final : public IMutableDuplexServer {
public:
    void stop() override {}
    bool isRunning() const override { return false; }
    void start(std::function<void(Frame&)> handler, ProcessingMode) override { handler(request); }

    Frame request = Frame::copy_of("abc", 3);
};

class Factory final : public IDuplexChannelFactory {
public:
    std::unique_ptr<IImmutableDuplexServer> createImmutableServer(const std::string&, const BufferConfig&) override {
        return std::make_unique<ImmutableServer>();
    }
    std::unique_ptr<IMutableDuplexServer> createMutableServer(const std::string&, const BufferConfig&) override {
        return std::make_unique<MutableServer>();
    }
    std::unique_ptr<IDuplexClient> createClient(const std::string&) override { return std::make_unique<Client>(); }
};

}  // namespace

TEST_CASE("a class of the user's own implements what was asked for, and no more") {
    Factory own;
    IDuplexChannelFactory& factory = own;
    const auto client = factory.createClient("any");
    CHECK(client->sendRequest("hello", 5) == 7);
    CHECK(says(client->receiveResponse(5000), "hello"));
    CHECK(static_cast<Client&>(*client).waited == 5000);
    CHECK_FALSE(client->receiveResponse(2s).valid());
    CHECK(static_cast<Client&>(*client).waited == 2000);
    CHECK_FALSE(client->receiveResponse(std::int64_t{1} << 40).valid());
    CHECK(static_cast<Client&>(*client).waited == std::numeric_limits<int>::max());
    CHECK_FALSE(client->receiveResponse(forever).valid());
    CHECK(static_cast<Client&>(*client).waited == -1);
    CHECK(client->channel().empty());
    CHECK_THROWS_AS((void)client->call("x", 1, 10), std::logic_error);
    CHECK_THROWS_AS((void)factory.createClient("any", ClientOptions()), std::logic_error);
    const auto server = factory.createImmutableServer("any", BufferConfig());
    server->start([](const Frame& request) { return std::string(request.begin(), request.end()) + "!"; });
    CHECK(static_cast<ImmutableServer&>(*server).answer.size() == 8);
    CHECK(server->isRunning());
    CHECK_THROWS_AS(server->setPoolSize(2), std::logic_error);
    const auto changing = factory.createMutableServer("any", BufferConfig());
    changing->start([](Frame& request) { request.mutable_span()[0] = 'A'; });
    CHECK(says(static_cast<MutableServer&>(*changing).request, "Abc"));
}

TEST_CASE("a frame of bytes stands for a request in tests of handlers") {
    Frame frame = Frame::copy_of("hello");
    CHECK(says(frame, "hello"));
    CHECK(frame.sequence() == 1);
    CHECK_FALSE(frame.is_cancelled());
    CHECK_FALSE(frame.time_left().has_value());
    frame.mutable_data()[0] = 'J';
    const Frame moved = std::move(frame);
    CHECK(says(moved, "Jello"));
    CHECK_FALSE(frame.valid());  // NOLINT(bugprone-use-after-move): what is tested
    const std::array<std::uint8_t, 3> bytes = {1, 2, 3};
    const Frame third = Frame::copy_of(bytes, 33);
    CHECK(third.sequence() == 33);
    CHECK(std::equal(third.begin(), third.end(), bytes.begin()));
    const Frame empty = Frame::copy_of("");
    CHECK(empty.valid());
    CHECK(empty.size() == 0);
    CHECK_THROWS_AS((void)Frame::copy_of(nullptr, 5), invalid_argument_exception);
    const RequestHandler handler = [](const Frame& request) { return request.span(); };
    CHECK(handler(moved).size() == 5);
}

TEST_CASE("the newest frame comes, and those before it are counted") {
    const Name name("newest");
    Reader reader(name);
    Writer writer(name);
    CHECK_FALSE(reader.read_latest_frame(0).valid());
    const auto write = [&writer](std::uint64_t first, std::uint64_t last) {
        for (std::uint64_t number = first; number <= last; ++number) writer.write_frame(&number, sizeof number);
    };
    write(1, 100);
    const Frame frame = reader.read_latest_frame(patience);
    CHECK(frame.sequence() == 100);
    CHECK(frame.size() == sizeof(std::uint64_t));
    CHECK(reader.frames_skipped() == 99);
    write(101, 110);
    CHECK(reader.read_latest_frame_ref(std::chrono::seconds(20)).sequence() == 110);
    CHECK(reader.frames_read() == 2);
    CHECK(reader.frames_skipped() == 108);
    // An end that a batch found behind its frames comes first.
    write(111, 113);
    writer.close();
    std::vector<Frame> frames;
    CHECK(reader.read_frames(frames, 100, patience) == 3);
    CHECK(reader.read_latest_frame(patience).end_of_stream());
    Writer next(name);
    next.write_frame(&name, 1);
    CHECK(reader.read_latest_frame(std::chrono::seconds(20)).sequence() == 1);
}

TEST_CASE("a native handle is ready when there is something to do") {
    const Name name("descriptor");
    Reader reader(name, small());
    Writer writer(name);
    const auto ready = [](int descriptor, int timeout_ms) {
        pollfd event{descriptor, POLLIN, 0};
        return poll(&event, 1, timeout_ms) == 1;
    };
    CHECK(ready(reader.native_handle(), 0));
    CHECK_FALSE(reader.try_read_frame().valid());
    CHECK_FALSE(ready(reader.native_handle(), 0));
    const std::array<std::uint8_t, 1000> data{};
    writer.write_frame(data);
    CHECK(ready(reader.native_handle(), 20'000));
    CHECK(reader.try_read_frame().valid());
    CHECK(ready(writer.native_handle(), 0));
    while (writer.try_write_frame(data)) {
    }
    CHECK_FALSE(ready(writer.native_handle(), 0));
    CHECK(reader.read_frame(patience).valid());
    CHECK(reader.read_frame(patience).valid());
    CHECK(ready(writer.native_handle(), 20'000));
    reader.close();
    CHECK_THROWS_AS(static_cast<void>(reader.native_handle()), closed_exception);
}

TEST_CASE("read_frames tells of the end behind its frames, whichever way the next call reads") {
    for (const int next : {0, 1, 2, 3}) {
        const Name name("ends");
        Reader reader(name, small());
        {
            Writer writer(name);
            for (int number = 0; number < 64; ++number) writer.write_frame(&number, sizeof number);
        }
        std::vector<Frame> frames;
        CHECK(reader.read_frames(frames, 100, patience) == 64);
        CHECK_FALSE(reader.end_of_stream());
        frames.clear();
        if (next == 0) CHECK(reader.read_frame(patience).end_of_stream());
        if (next == 1) CHECK(reader.try_read_frame().end_of_stream());
        if (next == 2) CHECK(reader.read_frame_ref(patience).end_of_stream());
        if (next == 3) {
            CHECK(reader.read_frames(frames, 100, patience) == 0);
            CHECK(reader.end_of_stream());
        }
        CHECK(reader.read_frames(frames, 100, 0) == 0);
        CHECK_FALSE(reader.end_of_stream());
        CHECK_FALSE(reader.read_frame(0).end_of_stream());
    }
}

TEST_CASE("read_frames tells of an end that it finds first, and of a death behind its frames") {
    const Name name("ends-first");
    Reader reader(name, small());
    std::vector<Frame> frames;
    CHECK(reader.read_frames(frames, 100, 0) == 0);
    CHECK_FALSE(reader.end_of_stream());
    {
        Writer writer(name);
        writer.write_frame("one", 3);
    }
    CHECK(reader.read_frames(frames, 100, patience) == 1);
    CHECK(reader.read_frames(frames, 100, std::chrono::milliseconds(patience)) == 0);
    CHECK(reader.end_of_stream());
    // Code that knows nothing of end_of_stream() asks read_frame().
    CHECK(reader.read_frame(0).end_of_stream());
    CHECK_FALSE(reader.end_of_stream());
    frames.clear();

    support::Process peer({support::self(), "role-batch-writer", name});
    REQUIRE(peer.line() == "written");
    peer.kill();
    CHECK(reader.read_frames(frames, 100, patience) == 64);
    frames.clear();
    CHECK_THROWS_AS(reader.read_frames(frames, 100, patience), writer_dead_exception);
    CHECK(reader.read_frames(frames, 100, 0) == 0);
}

TEST_CASE("an odd size commits nothing") {
    const Name name("odd-commit");
    Reader reader(name, small());
    Writer writer(name);
    writer.acquire_frame_buffer(1000)[0] = 1;
    const int failed = -1;  // what an encoder returns
    CHECK_THROWS_AS(writer.commit_frame(static_cast<std::size_t>(failed)), invalid_frame_size_exception);
    CHECK_THROWS_AS(writer.commit_frame(0), invalid_frame_size_exception);
    CHECK_THROWS_AS(writer.commit_frame(1001), invalid_frame_size_exception);
    CHECK(writer.commit_frame(1) == 1);
    CHECK(reader.read_frame(0).size() == 1);
    writer.acquire_frame_buffer(1000)[0] = 1;
    CHECK(writer.commit_frame() == 2);
    CHECK(reader.read_frame(0).size() == 1000);
}

TEST_CASE("text and bytes of every kind are written") {
    const Name name("kinds");
    Reader reader(name, small());
    Writer writer(name);
    writer.write_frame("literal");
    writer.write_frame(std::string("string"));
    writer.write_frame(std::string_view("view"));
    const std::array<std::byte, 2> bytes = {std::byte{'b'}, std::byte{'y'}};
    writer.write_frame(bytes);
    writer.write_frame(std::vector<std::uint8_t>{'v', 'e'});
    CHECK(writer.try_write_frame("try").has_value());
    CHECK(writer.try_write_frame(std::span<const std::byte>(bytes)).has_value());
    CHECK(writer.write_frame_within("in", 2, 1ms) == 8);
    std::memcpy(writer.acquire_frame_buffer_within(2, 1s).data(), "ac", 2);
    writer.commit_frame();
    for (const char* text : {"literal", "string", "view", "by", "ve", "try", "by", "in", "ac"}) {
        CHECK_MESSAGE(says(reader.read_frame(patience), text), text);
    }
}

TEST_CASE("time-outs are durations wherever they are numbers") {
    const Name name("durations");
    Reader reader(name, small());
    CHECK_FALSE(reader.is_writer_connected(1ms));
    Writer writer(name, WriterOptions().set_connect_timeout(1s).set_write_timeout(2s));
    CHECK(writer.write_timeout() == 2000);
    writer.set_write_timeout(3s);
    CHECK(writer.write_timeout() == 3000);
    CHECK_FALSE(reader.read_frame(1ms).valid());
    CHECK_FALSE(reader.read_frame_ref(1ms).valid());
    std::vector<Frame> frames;
    CHECK(reader.read_frames(frames, 1, 1ms) == 0);
    const std::vector<std::uint8_t> most(writer.max_frame_size());
    writer.write_frame(most);
    CHECK_THROWS_AS(writer.write_frame_within(most.data(), most.size(), 1ms), buffer_full_exception);
    CHECK_THROWS_AS((void)writer.acquire_frame_buffer_within(most.size(), 1ms), buffer_full_exception);

    const Name channel("durations-channel");
    ImmutableDuplexServer server(channel, small());
    server.start([](const Frame& request) { return request.span(); });
    DuplexClient client(channel, ClientOptions().set_connect_timeout(5s).set_request_timeout(5s).set_response_config(small()));
    CHECK(says(client.call("call", 4, 30s), "call"));
    const auto sequence = client.sendRequestWithin("sent", 4, 30s);
    CHECK(says(client.receiveResponseTo(sequence, 30s), "sent"));
    std::memcpy(client.acquireRequestBuffer(2).second.data(), "ac", 2);
    CHECK(says(client.callAcquired(30s), "ac"));
    client.sendRequest("last", 4);
    CHECK(says(client.receiveResponse(30s), "last"));
    CHECK_FALSE(client.receiveResponse(1ms).valid());
}

TEST_CASE("a name with a zero byte is refused, not cut") {
    const Name name("cut");
    const std::string odd = name.str() + std::string("\0more", 5);
    const Reader reader(name, small());
    CHECK_THROWS_AS(Reader(odd, small()), invalid_name_exception);
    CHECK_THROWS_AS(Writer{odd}, invalid_name_exception);
    CHECK_THROWS_AS(KeptBuffer(odd, small()), invalid_name_exception);
    CHECK_THROWS_AS((void)inspect::snapshot(odd), invalid_name_exception);
    CHECK_THROWS_AS(DuplexClient{odd}, invalid_name_exception);
    CHECK_THROWS_AS(ImmutableDuplexServer(odd, small()), invalid_name_exception);
    CHECK_THROWS_AS(MutableDuplexServer(odd, small()), invalid_name_exception);
}

TEST_CASE("words of a failure that are no UTF-8 reach the client all the same") {
    const Name channel("words");
    ImmutableDuplexServer server(channel, small());
    server.start([](const Frame&) -> std::span<const std::uint8_t> { throw std::runtime_error("caf\xe9 is closed"); });
    DuplexClient client(channel, ClientOptions().set_response_config(small()));
    try {
        (void)client.call("x", 1, patience);
        FAIL("the handler failed");
    } catch (const request_failed_exception& error) {
        CHECK_MESSAGE(std::string(error.what()).find("is closed") != std::string::npos, error.what());
    }
}

TEST_CASE("a loan is kept by a call of its own, and outlives a close") {
    const Name name("keep");
    Reader reader(name, small());
    Writer writer(name);
    writer.write_frame("kept");
    CHECK_THROWS_AS((void)reader.keep_frame_ref(), invalid_state_exception);
    CHECK(reader.read_frame_ref(patience).valid());
    const Frame kept = reader.keep_frame_ref();
    writer.write_frame("lent");
    const FrameRef lent = reader.read_frame_ref(patience);
    reader.close();
    CHECK(says(kept, "kept"));
    CHECK(std::memcmp(lent.data(), "lent", 4) == 0);
    reader.interrupt();
    reader.clear_interrupt();
}

TEST_CASE("a logger lives as long as its object, beside others") {
    const Name name("logger");
    std::vector<std::string> first;
    std::vector<std::string> second;
    const auto leave_something_behind = [&] {
        support::Process peer({support::self(), "role-reader", name});
        REQUIRE(peer.line() == "created");
        peer.kill();
        // Its files are cleaned up, of which the library tells.
        const Reader reader(name, small());
    };
    const Logger keeps([&](LogLevel, std::string_view, std::string_view message) { first.emplace_back(message); });
    {
        const Logger goes([&](LogLevel, std::string_view, std::string_view message) { second.emplace_back(message); });
        leave_something_behind();
    }
    CHECK_FALSE(first.empty());
    CHECK(first == second);
    leave_something_behind();
    CHECK(first.size() > second.size());
    CHECK_THROWS_AS(Logger{LogHandler()}, std::invalid_argument);
}
