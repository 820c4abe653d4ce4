// One reader, many outputs.
#include <doctest/doctest.h>
#include <zerobuffer/zerobuffer.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support.h"

using namespace zerobuffer;
using support::Name;
using support::patience;

namespace {

constexpr std::size_t size = 100'000;

BufferConfig sharing() { return BufferConfig(64, 1 << 20).set_allow_payload_sharing(true); }

void check(const Frame& frame, std::uint8_t content) {
    REQUIRE(frame.valid());
    CHECK(frame.size() == size);
    CHECK(std::all_of(frame.begin(), frame.end(), [&](auto byte) { return byte == content; }));
}

}  // namespace

TEST_CASE("a tee passes every frame to its block outputs, and drops what its drop outputs have no room for") {
    const Name camera("tee-camera");
    const Name archive("tee-archive");
    const Name first("tee-first");
    const Name second("tee-second");
    Reader recorder(archive, sharing());
    Reader viewer(first, sharing());
    Reader stopped(second, sharing());
    Tee tee{Reader(camera, sharing())};
    tee.add_block_output(Writer(archive, true));
    tee.add_drop_output(Writer(first, true));
    tee.add_drop_output(Writer(second, true), 1);
    Writer source(camera);
    for (std::uint8_t content = 0; content < 30; content++) {
        source.write_frame(std::vector<std::uint8_t>(size, content));
        if (content % 2 == 0) {
            CHECK(tee.step(patience));
        } else {
            // A filter in place.
            Frame frame = tee.read_frame(patience);
            check(frame, content);
            std::ranges::fill(frame.make_mut(), std::uint8_t(content + 100));
            tee.forward(std::move(frame));
            CHECK(!frame.valid());  // NOLINT: it was taken, not moved
        }
        const std::uint8_t seen = content % 2 == 0 ? content : content + 100;
        check(recorder.read_frame(patience), seen);
        check(viewer.read_frame(patience), seen);
    }
    const std::vector<TeeOutput> outputs = tee.outputs();
    REQUIRE(outputs.size() == 3);
    CHECK(outputs[0].name == std::string(archive));
    CHECK(outputs[0].bound == 0);
    CHECK(outputs[0].frames_shared == 29);
    CHECK(outputs[0].frames_copied == 1);
    CHECK(outputs[1].bound == Tee::drop_frames);
    CHECK(outputs[1].frames_shared == 29);
    CHECK(outputs[2].frames_copied == 1);
    CHECK(outputs[2].frames_dropped == 29);
    CHECK(outputs[2].ended == ZB_OK);
    check(stopped.read_frame(patience), 0);
    CHECK(tee.remove_output(second));
    CHECK(!tee.remove_output(second));
    CHECK(stopped.read_frame(patience).end_of_stream());
    source.close();
    CHECK(!tee.step(patience));
    CHECK(tee.end_of_stream());
}

TEST_CASE("an output whose reader has gone ends, and its exception names it") {
    const Name camera("tee-gone-camera");
    const Name archive("tee-gone-archive");
    const Name display("tee-gone-display");
    Reader viewer(display, sharing());
    Tee tee{Reader(camera, sharing())};
    {
        Reader recorder(archive, sharing());
        tee.add_block_output(Writer(archive));
        tee.add_block_output(Writer(display));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    Writer source(camera);
    source.write_frame(std::vector<std::uint8_t>(size, 7));
    try {
        tee.step(patience);
        FAIL("no exception");
    } catch (const reader_dead_exception& error) {
        CHECK(std::string(error.what()).find(std::string(archive)) != std::string::npos);
    }
    check(viewer.read_frame(patience), 7);
    CHECK(tee.outputs()[0].ended == ZB_ERROR_READER_DEAD);
    source.write_frame(std::vector<std::uint8_t>(size, 8));
    CHECK(tee.step(patience));
    check(viewer.read_frame(patience), 8);
}

TEST_CASE("a tee keeps a frame for an output that is full") {
    const Name camera("tee-full-camera");
    const Name display("tee-full-display");
    Reader viewer(display, BufferConfig(64, 4096));
    Tee tee{Reader(camera, sharing())};
    tee.add_block_output(Writer(display, WriterOptions().set_write_timeout(0)));
    Writer source(camera);
    for (std::uint8_t number = 0; number < 5; number++) source.write_frame(std::vector<std::uint8_t>(1000, number));
    for (int number = 0; number < 4; number++) CHECK(tee.step(patience));
    CHECK_THROWS_AS(tee.step(patience), buffer_full_exception);
    CHECK_THROWS_AS(tee.flush(), buffer_full_exception);
    for (std::uint8_t number = 0; number < 4; number++) CHECK(viewer.read_frame(patience).span()[0] == number);
    tee.flush();
    CHECK(viewer.read_frame(patience).span()[0] == 4);
}

TEST_CASE("a tee is interrupted and closed from another thread") {
    const Name camera("tee-interrupt");
    Reader reader(camera, sharing());
    Tee tee(std::move(reader));
    CHECK(std::string(tee.name()) == std::string(camera));
    std::thread interrupter([&] { tee.interrupt(); });
    CHECK_THROWS_AS(tee.step(-1), interrupted_exception);
    interrupter.join();
    std::thread closer([&] { tee.close(); });
    CHECK_THROWS_AS(tee.run(), closed_exception);
    closer.join();
    CHECK_THROWS_AS(tee.step(0), closed_exception);
}
