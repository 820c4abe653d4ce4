// Frames that are passed on without a copy.
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zerobuffer/zerobuffer.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "support.h"

using namespace zerobuffer;
using support::Name;
using support::patience;

namespace {

constexpr std::size_t size = 100'000;

BufferConfig plain() { return {64, 1 << 20}; }
BufferConfig sharing() { return plain().set_allow_payload_sharing(true); }

/** A camera's buffer and a display's, and the relay between them, all in this process. */
struct Relay {
    Reader input;
    Reader viewer;
    Writer source;
    Writer output;

    Frame send(std::uint8_t content) {
        source.write_frame(std::vector<std::uint8_t>(size, content));
        return input.read_frame(patience);
    }

    /** Sends one frame all the way; returns whether it was shared. */
    bool pass_on(std::uint8_t content) {
        Frame frame = send(content);
        const bool shared = output.forward(std::move(frame));
        CHECK(!frame.valid());  // NOLINT: it was released, not moved
        const Frame seen = viewer.read_frame(patience);
        CHECK(seen.size() == size);
        CHECK(std::all_of(seen.begin(), seen.end(), [&](auto byte) { return byte == content; }));
        CHECK(seen.is_shared() == shared);
        return shared;
    }
};

Relay sharing_relay(const Name& camera, const Name& display) {
    Reader input(camera, sharing());
    Reader viewer(display, sharing());
    return {std::move(input), std::move(viewer), Writer(camera), Writer(display, true)};
}

}  // namespace

TEST_CASE("frames are shared in both spellings of the request") {
    const Name camera("share-camera");
    const Name display("share-display");
    for (const bool positional : {false, true}) {
        const auto open = [&](const Name& name) { return positional ? Reader(name, plain(), true) : Reader(name, sharing()); };
        Reader input = open(camera);
        Reader viewer = open(display);
        Writer output = positional ? Writer(display, true) : Writer(display, WriterOptions().set_request_payload_sharing(true));
        Relay relay{std::move(input), std::move(viewer), Writer(camera), std::move(output)};
        CHECK(!relay.pass_on(1));  // The viewer learned of the relay with this one.
        CHECK(relay.pass_on(2));
        CHECK(relay.pass_on(3));
        CHECK(relay.viewer.payload_sharing_enabled());
        CHECK(relay.output.payload_sharing_enabled());
        CHECK(relay.viewer.payload_owner_pid() == static_cast<std::uint64_t>(getpid()));
        CHECK(relay.output.payload_owner_pid() == static_cast<std::uint64_t>(getpid()));
    }
}

TEST_CASE("frames are copied where one side does not share") {
    const Name camera("copy-camera");
    const Name display("copy-display");
    for (int lacking = 0; lacking < 3; lacking++) {
        Reader input(camera, plain(), lacking != 0);
        Reader viewer(display, plain(), lacking != 1);
        Relay relay{std::move(input), std::move(viewer), Writer(camera), Writer(display, lacking != 2)};
        for (std::uint8_t number = 0; number < 3; number++) CHECK(!relay.pass_on(number));
        CHECK(relay.output.payload_share_count() == 0);
    }
}

// A bool and nothing that converts to it: a pointer or a number there was meant for something else.
static_assert(std::is_constructible_v<Reader, std::string, BufferConfig, bool>);
static_assert(!std::is_constructible_v<Reader, std::string, BufferConfig, int>);
static_assert(!std::is_constructible_v<Reader, std::string, BufferConfig, const char*>);
static_assert(std::is_constructible_v<Writer, std::string, bool>);
static_assert(!std::is_constructible_v<Writer, std::string, int>);
static_assert(!std::is_constructible_v<Writer, std::string, void*>);

TEST_CASE("a config allows sharing whatever the bool says") {
    const Name name("share-config");
    CHECK(Reader(name, sharing(), false).payload_sharing_enabled());
    CHECK(!Reader(name, plain(), false).payload_sharing_enabled());
}

TEST_CASE("a frame that cannot be forwarded stays as it is") {
    const Name camera("refuse-camera");
    const Name display("refuse-display");
    Relay relay = sharing_relay(camera, display);
    Frame none;
    CHECK_THROWS_AS(relay.output.forward(std::move(none)), invalid_argument_exception);
    CHECK_THROWS_AS(relay.output.forward(Frame::copy_of("abc")), invalid_argument_exception);
    Frame frame = relay.send(5);
    relay.output.close();
    CHECK_THROWS_AS(relay.output.forward(std::move(frame)), closed_exception);
    CHECK(frame.valid());  // NOLINT: it was not moved
    CHECK(frame.data()[size - 1] == 5);
}

TEST_CASE("a frame is changed in place before it goes on, and is read-only afterwards") {
    const Name camera("change-camera");
    const Name display("change-display");
    Relay relay = sharing_relay(camera, display);
    relay.pass_on(1);
    Frame frame = relay.send(2);
    const auto bytes = frame.make_mut();
    CHECK(bytes.data() == frame.data());
    CHECK(bytes.size() == size);
    std::fill(bytes.begin(), bytes.end(), std::uint8_t{3});
    CHECK(relay.output.forward_to(frame));
    CHECK((relay.output.stats().frames_shared > 0 && relay.input.stats().frames_lent > 0));
    CHECK(frame.valid());
    CHECK(relay.input.payload_share_count() == 1);
    CHECK_THROWS_AS(static_cast<void>(frame.make_mut()), invalid_state_exception);
    Frame seen = relay.viewer.read_frame(patience);
    CHECK(seen.is_shared());
    CHECK(!frame.is_shared());
    CHECK(std::all_of(seen.begin(), seen.end(), [](auto byte) { return byte == 3; }));
    CHECK_THROWS_AS(static_cast<void>(seen.make_mut()), invalid_state_exception);
    CHECK(seen.mutable_span().empty());
    seen.release();
    frame.release();
    CHECK(relay.input.payload_share_count() == 0);
    CHECK_THROWS_AS(static_cast<void>(Frame().make_mut()), invalid_argument_exception);
}

TEST_CASE("what others may look at is changed as a private copy, which goes on") {
    const Name camera("copy-camera");
    const Name display("copy-display");
    Relay relay = sharing_relay(camera, display);
    relay.pass_on(1);
    Frame frame = relay.send(2);
    CHECK(frame.to_mut().data() == frame.data());
    CHECK(relay.output.forward_to(frame));
    std::ranges::fill(frame.to_mut(), std::uint8_t{3});
    Frame seen = relay.viewer.read_frame(patience);
    CHECK((seen.is_shared() && seen.data()[size - 1] == 2 && frame.data()[size - 1] == 3));
    std::ranges::fill(seen.to_mut(), std::uint8_t{4});
    CHECK((!seen.is_shared() && seen.data()[0] == 4 && frame.data()[0] == 3));
    seen.release();
    CHECK(!relay.output.forward(std::move(frame)));
    CHECK(relay.viewer.read_frame(patience).data()[size - 1] == 3);
    CHECK(relay.input.payload_share_count() == 0);
    CHECK_THROWS_AS(static_cast<void>(Frame().to_mut()), invalid_argument_exception);
}

TEST_CASE("a shared frame outlives its reader, and then goes back") {
    const Name camera("outlive-camera");
    const Name display("outlive-display");
    Relay relay = sharing_relay(camera, display);
    relay.pass_on(1);
    CHECK(relay.output.forward(relay.send(2)));
    {
        const Frame seen = relay.viewer.read_frame(patience);
        relay.viewer.close();
        CHECK(seen.is_shared());
        CHECK(std::all_of(seen.begin(), seen.end(), [](auto byte) { return byte == 2; }));
        CHECK(relay.input.payload_share_count() == 1);
    }
    CHECK(relay.input.payload_share_count() == 0);
}

TEST_CASE("a forked child sees a shared frame as zeroes") {
    const Name camera("fork-camera");
    const Name display("fork-display");
    Relay relay = sharing_relay(camera, display);
    relay.pass_on(1);
    CHECK(relay.output.forward(relay.send(2)));
    const Frame seen = relay.viewer.read_frame(patience);
    CHECK(seen.is_shared());
    const pid_t child = fork();
    if (child == 0) {
        const bool zeroes = std::all_of(seen.begin(), seen.end(), [](auto byte) { return byte == 0; });
        _exit(zeroes && seen.size() == size ? 0 : 1);
    }
    int status = 1;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    CHECK(std::all_of(seen.begin(), seen.end(), [](auto byte) { return byte == 2; }));
}

TEST_CASE("a relay reads on one thread and forwards on another") {
    const Name camera("threads-camera");
    const Name display("threads-display");
    Relay relay = sharing_relay(camera, display);
    constexpr int count = 200;
    std::mutex lock;
    std::condition_variable came;
    std::deque<Frame> between;
    int shared = 0;
    std::thread reads([&] {
        for (int number = 0; number < count; number++) {
            Frame frame = relay.input.read_frame(patience);
            const std::lock_guard held(lock);
            between.push_back(std::move(frame));
            came.notify_one();
        }
    });
    std::thread forwards([&] {
        for (int number = 0; number < count; number++) {
            std::unique_lock held(lock);
            came.wait(held, [&] { return !between.empty(); });
            Frame frame = std::move(between.front());
            between.pop_front();
            held.unlock();
            shared += relay.output.forward(std::move(frame)) ? 1 : 0;
        }
    });
    int seen_shared = 0;
    for (int number = 0; number < count; number++) {
        const auto content = static_cast<std::uint8_t>(number);
        relay.source.write_frame(std::vector<std::uint8_t>(size, content));
        const Frame seen = relay.viewer.read_frame(patience);
        CHECK(std::all_of(seen.begin(), seen.end(), [&](auto byte) { return byte == content; }));
        seen_shared += seen.is_shared() ? 1 : 0;
    }
    reads.join();
    forwards.join();
    CHECK(shared == count - 1);
    CHECK(seen_shared == shared);
    CHECK(relay.input.payload_share_count() == 0);
}

TEST_CASE("a shared writer shares from the first frame on, and leaves nothing without a reader") {
    const Name camera("own-camera");
    const Name display("own-display");
    Reader input(camera, sharing());
    Writer source(camera);
    {
        SharedWriter output(display, input);
        CHECK(!output.is_adopted());
        Reader viewer(display, sharing());
        CHECK(output.is_adopted());
        source.write_frame(std::vector<std::uint8_t>(size, 9));
        CHECK(output.forward(input.read_frame(patience)));
        const Frame seen = viewer.read_frame(patience);
        CHECK(seen.is_shared());
        CHECK(seen.data()[size - 1] == 9);
    }
    {
        SharedWriter output(display, input, plain(), WriterOptions().set_write_timeout(7));
        CHECK(output.write_timeout() == 7);
        CHECK(!display.left().empty());
        output.close();
        CHECK(display.left().empty());
        CHECK_THROWS_AS(static_cast<void>(output.is_adopted()), closed_exception);
    }
    input.close();
    CHECK_THROWS_AS(SharedWriter(display, input), closed_exception);
}
