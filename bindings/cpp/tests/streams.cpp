// Streams between C++ and Rust, both ways, with every byte verified.
#include <doctest/doctest.h>
#include <zerobuffer/zerobuffer.h>

#include <string>

#include "support.h"

using namespace zerobuffer;
using support::Name;
using support::patience;

namespace {

// The command line's pattern "sequential": byte i of frame n is n + i.
std::uint8_t sequential(std::uint64_t number, std::size_t index) { return static_cast<std::uint8_t>(number + index); }

}  // namespace

TEST_CASE("C++ reads what Rust writes") {
    struct Case {
        std::size_t size;
        int frames;
    };
    for (const auto [size, frames] : {Case{1, 500}, Case{1000, 5000}, Case{3'110'400, 30}}) {
        const Name name("from-rust");
        Reader reader(name, BufferConfig(4096, 16 << 20));
        support::Process writer({support::rust_cli(), "writer", name, "--frames", std::to_string(frames), "--size",
                                 std::to_string(size), "--pattern", "sequential", "--metadata", "from Rust", "--json-output"});
        REQUIRE(reader.is_writer_connected(patience));
        int count = 0;
        bool good = true;
        while (true) {
            const Frame frame = reader.read_frame(patience);
            if (!frame.valid()) {
                CHECK(frame.end_of_stream());
                break;
            }
            good = good && frame.size() == size && frame.sequence() == static_cast<std::uint64_t>(count + 1);
            for (std::size_t index = 0; index < frame.size(); ++index) {
                good = good && frame.data()[index] == sequential(static_cast<std::uint64_t>(count), index);
            }
            ++count;
        }
        CHECK(good);
        CHECK(count == frames);
        CHECK_MESSAGE(std::string(reinterpret_cast<const char*>(reader.get_metadata().data()), 9) == "from Rust", size);  // NOLINT
        CHECK(writer.wait() == 0);
    }
}

TEST_CASE("Rust reads what C++ writes") {
    struct Case {
        std::size_t size;
        int frames;
    };
    for (const auto [size, frames] : {Case{1, 500}, Case{1000, 5000}, Case{3'110'400, 30}}) {
        const Name name("to-rust");
        support::Process reader({support::rust_cli(), "reader", name, "--frames", std::to_string(frames), "--size",
                                 std::to_string(size), "--verify", "sequential", "--timeout-ms", std::to_string(patience), "--json-output"});
        Writer writer(name, WriterOptions().set_connect_timeout(patience).set_write_timeout(patience));
        for (int number = 0; number < frames; ++number) {
            const auto place = writer.acquire_frame_buffer(size);
            for (std::size_t index = 0; index < size; ++index) place[index] = sequential(static_cast<std::uint64_t>(number), index);
            writer.commit_frame();
        }
        writer.close();
        const std::string report = reader.rest();
        CHECK_MESSAGE(reader.wait() == 0, report);
        CHECK_MESSAGE(report.find(std::to_string(frames)) != std::string::npos, report);
    }
}

TEST_CASE("loops go over the frames of one writer, or its newest frames, and end with it") {
    const Name name("loops");
    Reader reader(name, BufferConfig(64, 4096));
    std::vector<std::string> got;
    for (const bool latest : {false, true}) {
        Writer writer(name);
        for (const char* text : {"one", "two", "three"}) writer.write_frame(std::string_view(text));
        writer.close();
        for (const Frame& frame : latest ? reader.latest_frames() : reader.frames()) got.emplace_back(frame.begin(), frame.end());
    }
    CHECK(got == std::vector<std::string>{"one", "two", "three", "three"});
    CHECK(reader.frames_skipped() == 2);
    static_assert(std::input_iterator<Frames::iterator>);
}
