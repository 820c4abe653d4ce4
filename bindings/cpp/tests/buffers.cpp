// Readers, writers and frames: what api.md promises, from C++.
#include <doctest/doctest.h>
#include <zerobuffer/zerobuffer.h>

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <exception>
#include <future>
#include <thread>
#include <type_traits>

#include "support.h"

using namespace zerobuffer;
using support::Name;
using support::patience;

namespace {

BufferConfig small() { return {64, 4096}; }

/** Whether the frame holds this text. */
bool says(const Frame& frame, std::string_view text) {
    return frame.valid() && std::string_view(reinterpret_cast<const char*>(frame.data()), frame.size()) == text;  // NOLINT
}

std::span<const std::uint8_t> bytes(std::string_view text) {
    return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};  // NOLINT
}

}  // namespace

// Handles are owned by one object at a time, and moving them cannot fail.
static_assert(!std::is_copy_constructible_v<Reader> && std::is_nothrow_move_constructible_v<Reader>);
static_assert(!std::is_copy_constructible_v<Writer> && std::is_nothrow_move_assignable_v<Writer>);
static_assert(!std::is_copy_constructible_v<Frame> && std::is_nothrow_move_constructible_v<Frame>);
static_assert(std::is_nothrow_move_assignable_v<Frame> && std::is_nothrow_destructible_v<Frame>);
static_assert(std::is_nothrow_copy_constructible_v<buffer_full_exception>);
// A bool asks a writer to lend; no bare integer makes its options.
static_assert(std::is_constructible_v<Writer, std::string, bool> && !std::is_constructible_v<Writer, std::string, int>);

TEST_CASE("the defaults are those of every language") {
    const BufferConfig config;
    CHECK(config.metadata_size() == 4096);
    CHECK(config.payload_size() == 268'435'456);
    CHECK(config.mode() == 0600);
    CHECK_FALSE(config.preallocate());
    CHECK_FALSE(config.huge_pages());
    CHECK_FALSE(config.numa_node().has_value());
    CHECK_FALSE(config.classic());
    CHECK(config.wait_strategy() == WaitStrategy::adaptive);
    const WriterOptions options;
    CHECK(options.write_timeout() == 5000);
    CHECK(options.connect_timeout() == 0);
    CHECK(ClientOptions().request_timeout() == 5000);
    CHECK(std::string(version()).starts_with("2."));
    const Name name("defaults");
    const Reader reader(name);
    const auto shown = inspect::snapshot(name);
    CHECK(shown.payload_size == 268'435'456);
    CHECK(shown.metadata_size == 4096);
    CHECK(shown.mode == 0600);
}

TEST_CASE("frames arrive as they were written, whichever way they were written") {
    const Name name("ways");
    Reader reader(name, small());
    Writer writer(name);
    CHECK(std::string(writer.name()) == name.str());
    CHECK(writer.max_frame_size() == 4096 - 16);
    CHECK(writer.write_frame("one", 3) == 1);
    CHECK(writer.write_frame(bytes("two")) == 2);
    CHECK(writer.try_write_frame(bytes("three")) == 3);
    const auto place = writer.acquire_frame_buffer(100);
    CHECK(place.size() == 100);
    std::memcpy(place.data(), "four", 4);
    CHECK(writer.commit_frame(4) == 4);
    std::memcpy(writer.acquire_frame_buffer(4).data(), "five", 4);
    CHECK(writer.commit_frame() == 5);
    (void)writer.acquire_frame_buffer(50);
    writer.discard_frame();
    const auto maybe = writer.try_acquire_frame_buffer(3);
    REQUIRE(maybe.has_value());
    std::memcpy(maybe->data(), "six", 3);
    writer.commit_frame();
    const std::array<std::span<const std::uint8_t>, 2> batch = {bytes("seven"), bytes("eight")};
    CHECK(writer.write_frames(batch) == 2);
    std::uint64_t sequence = 0;
    for (const char* text : {"one", "two", "three", "four", "five", "six", "seven", "eight"}) {
        const Frame frame = reader.read_frame(patience);
        CHECK_MESSAGE(says(frame, text), text);
        CHECK(frame.sequence() == ++sequence);
        CHECK(frame.span().data() == frame.data());
        CHECK(frame.end() - frame.begin() == static_cast<std::ptrdiff_t>(frame.size()));
        CHECK_FALSE(frame.end_of_stream());
    }
    CHECK(reader.frames_read() == 8);
    CHECK(reader.bytes_read() == 3 + 3 + 5 + 4 + 4 + 3 + 5 + 5);
    CHECK(writer.frames_written() == 8);
    CHECK(writer.bytes_written() == reader.bytes_read());
}

TEST_CASE("a batch is read in one call, across the library's own batches") {
    const Name name("batch");
    Reader reader(name, BufferConfig(64, 1 << 16));
    Writer writer(name);
    for (std::uint64_t number = 1; number <= 200; ++number) writer.write_frame(&number, sizeof number);
    std::vector<Frame> frames;
    CHECK(reader.read_frames(frames, 150, patience) == 150);
    CHECK(reader.read_frames(frames, 150, patience) == 50);
    CHECK(frames.size() == 200);
    for (std::size_t index = 0; index < frames.size(); ++index) CHECK(frames[index].sequence() == index + 1);
    CHECK(reader.read_frames(frames, 10, 0) == 0);
    frames.clear();
    writer.close();
    // read_frame returns an end once.
    const Frame end = reader.read_frame(patience);
    CHECK(end.end_of_stream());
}

TEST_CASE("a frame can be lent until the next call, for less than an owned one costs") {
    const Name name("lent");
    Reader reader(name, small());
    Writer writer(name);
    CHECK_FALSE(reader.read_frame_ref(0).valid());
    // More than the ring holds, so that each one must be given back by the next read.
    auto sender = std::async(std::launch::async, [&] {
        std::array<std::uint8_t, 1000> data{};
        for (std::uint64_t number = 1; number <= 100; ++number) {
            support::fill(number, data.data(), data.size());
            writer.write_frame(data);
        }
        writer.close();
    });
    std::uint64_t sequence = 0;
    FrameRef frame;
    while ((frame = reader.read_frame_ref(patience))) {
        CHECK(frame.sequence() == ++sequence);
        CHECK(frame.span().size() == 1000);
        CHECK(frame.end() - frame.begin() == 1000);
        CHECK(support::is_filled(sequence, frame.data(), frame.size()));
        CHECK_FALSE(frame.end_of_stream());
    }
    CHECK(sequence == 100);
    CHECK(frame.end_of_stream());
    sender.get();
    reader.release_frame_ref();
    reader.close();
    CHECK_THROWS_AS((void)reader.read_frame_ref(std::chrono::milliseconds(0)), closed_exception);
    CHECK_THROWS_AS(reader.release_frame_ref(), closed_exception);
}

TEST_CASE("a time-out gives an invalid frame, a closed writer one with end_of_stream, once") {
    const Name name("ends");
    Reader reader(name, small());
    CHECK_FALSE(reader.read_frame(0).valid());
    CHECK_FALSE(reader.try_read_frame().valid());
    CHECK_FALSE(reader.is_writer_connected());
    CHECK_FALSE(reader.is_writer_connected(0));
    for (int round = 0; round < 2; ++round) {
        Writer writer(name);
        CHECK(reader.is_writer_connected(patience));
        writer.write_frame("x", 1);
        writer.close();
        CHECK_MESSAGE(reader.is_writer_connected(), "its frame is still unread");
        CHECK(says(reader.read_frame(patience), "x"));
        const Frame end = reader.read_frame(patience);
        CHECK_FALSE(end.valid());
        CHECK(end.end_of_stream());
        CHECK_FALSE(static_cast<bool>(end));
        const Frame nothing = reader.read_frame(std::chrono::milliseconds(0));
        CHECK_FALSE(nothing.valid());
        CHECK_FALSE(nothing.end_of_stream());
    }
    CHECK_FALSE(Frame::invalid().valid());
    CHECK(Frame::invalid().data() == nullptr);
    CHECK(Frame::invalid().span().empty());
}

TEST_CASE("frames outlive their reader, move, and give their space back in any order") {
    const Name name("outlive");
    std::vector<Frame> held;
    {
        Reader reader(name, small());
        Writer writer(name, WriterOptions().set_write_timeout(0));
        for (int round = 0; round < 50; ++round) {
            held.clear();
            for (std::uint64_t number = 0; number < 3; ++number) {
                const auto place = writer.acquire_frame_buffer(1000);
                support::fill(number, place.data(), place.size());
                writer.commit_frame();
            }
            for (int count = 0; count < 3; ++count) held.push_back(reader.read_frame(patience));
            std::swap(held[0], held[2]);
            if (round < 49) {
                held[0] = std::move(held[1]);
                reader.release_frame(held[0]);
                reader.release_frame(held[0]);
                CHECK_FALSE(held[0].valid());
                CHECK_FALSE(held[1].valid());  // NOLINT(bugprone-use-after-move): that is what is tested
            }
        }
    }
    REQUIRE(held.size() == 3);
    CHECK(support::is_filled(2, held[0].data(), held[0].size()));
    CHECK(support::is_filled(0, held[2].data(), held[2].size()));
    std::thread([frames = std::move(held)]() mutable { frames.clear(); }).join();
    CHECK(name.left().empty());
}

TEST_CASE("metadata is set once and read any time") {
    const Name name("metadata");
    const Reader reader(name, small());
    Writer writer(name);
    CHECK(reader.get_metadata().empty());
    CHECK_THROWS_AS(writer.set_metadata(std::string(57, 'x')), metadata_too_large_exception);
    writer.set_metadata(std::string(56, 'y'));
    CHECK(reader.get_metadata() == std::vector<std::uint8_t>(56, 'y'));
    CHECK_THROWS_AS(writer.set_metadata("again"), metadata_already_written_exception);
}

TEST_CASE("an interrupt ends a blocked read and a blocked write, once") {
    const Name name("interrupt");
    Reader reader(name, small());
    const InterruptHandle handle = reader.interrupt_handle();
    std::promise<void> entering;
    std::thread other([&] {
        entering.get_future().wait();
        handle.interrupt();
    });
    entering.set_value();
    CHECK_THROWS_AS((void)reader.read_frame(forever), interrupted_exception);
    other.join();
    CHECK_FALSE(reader.read_frame(0).valid());
    Writer writer(name, WriterOptions().set_write_timeout(forever));
    const std::vector<std::uint8_t> frame(1000);
    while (writer.try_write_frame(frame)) {
    }
    std::thread third([&] { writer.interrupt(); });
    CHECK_THROWS_AS(writer.write_frame(frame), interrupted_exception);
    third.join();
    CHECK(writer.write_timeout() == forever);
    writer.set_write_timeout(std::chrono::milliseconds(1));
    CHECK(writer.write_timeout() == 1);
    CHECK_THROWS_AS(writer.write_frame(frame), buffer_full_exception);
    Reader(std::move(reader)).close();
    handle.interrupt();
}

TEST_CASE("close ends another thread's blocked call, and later calls say closed") {
    const Name name("close");
    Reader reader(name, small());
    auto blocked = std::async(std::launch::async, [&] {
        while (true) {
            try {
                (void)reader.read_frame(forever);
                return ErrorCode::internal;
            } catch (const invalid_state_exception&) {
                // The test was just looking: again.
                continue;
            } catch (const zerobuffer_exception& error) {
                return error.code();
            }
        }
    });
    // While it is in there, no other call is let in. (It may not be there yet: then the call succeeds.) Questions are answered.
    bool refused = false;
    while (!refused) {
        CHECK_FALSE(reader.is_writer_connected());
        try {
            (void)reader.get_metadata();
        } catch (const invalid_state_exception&) {
            refused = true;
        }
    }
    reader.close();
    const auto code = blocked.get();
    CHECK(code == ErrorCode::closed);
    CHECK_THROWS_AS((void)reader.read_frame(0), closed_exception);
    CHECK_THROWS_AS((void)reader.is_writer_connected(), closed_exception);
    CHECK_THROWS_AS((void)reader.get_metadata(), closed_exception);
    reader.close();
    CHECK(reader.frames_read() == 0);
    CHECK(std::string(reader.name()) == name.str());

    Reader second(name, small());
    Writer writer(name);
    (void)writer.acquire_frame_buffer(10);
    writer.close();
    CHECK_THROWS_AS(writer.write_frame("x", 1), closed_exception);
    CHECK_THROWS_AS(writer.commit_frame(), closed_exception);
    CHECK_THROWS_AS(writer.set_metadata("x"), closed_exception);
}

TEST_CASE("every error of a buffer is an exception of its own, with the buffer's name in its words") {
    const Name name("errors");
    const auto thrown = [&](auto&& function) {
        try {
            function();
        } catch (const zerobuffer_exception& error) {
            const std::runtime_error& base = error;
            CHECK(std::string(base.what()).find(error.buffer()) != std::string::npos);
            CHECK(error.buffer() == name.str());
            CHECK(error.sequence() == 0);
            return error.code();
        }
        return ErrorCode{};
    };
    CHECK(thrown([&] { const Writer writer(name); }) == ErrorCode::buffer_not_found);
    CHECK_THROWS_AS(Writer{name}, buffer_not_found_exception);
    CHECK_THROWS_AS((void)inspect::snapshot(name), buffer_not_found_exception);
    CHECK_THROWS_AS(Reader("no/slash"), invalid_name_exception);
    CHECK_THROWS_AS(Reader(""), invalid_name_exception);
    CHECK_THROWS_AS(Reader(name, BufferConfig(64, 16)), invalid_config_exception);
    CHECK_THROWS_AS(Reader(name, BufferConfig().set_mode(077777)), invalid_config_exception);
    auto reader = std::make_unique<Reader>(name, small());
    CHECK(thrown([&] { const Reader second(name, small()); }) == ErrorCode::reader_already_connected);
    CHECK_THROWS_AS(Reader(name, small()), reader_already_connected_exception);
    Writer writer(name, WriterOptions().set_write_timeout(1).set_connect_timeout(patience));
    CHECK_THROWS_AS(Writer{name}, writer_already_connected_exception);
    const std::vector<std::uint8_t> large(4096);
    CHECK_THROWS_AS(writer.write_frame(large), frame_too_large_exception);
    CHECK_THROWS_AS(writer.write_frame(large.data(), 0), invalid_frame_size_exception);
    CHECK_THROWS_AS((void)writer.acquire_frame_buffer(0), invalid_frame_size_exception);
    CHECK_THROWS_AS(writer.write_frame(nullptr, 5), invalid_argument_exception);
    CHECK_THROWS_AS(writer.commit_frame(), invalid_state_exception);
    (void)writer.acquire_frame_buffer(10);
    CHECK_THROWS_AS((void)writer.acquire_frame_buffer(10), invalid_state_exception);
    CHECK_THROWS_AS(writer.write_frame("x", 1), invalid_state_exception);
    CHECK_THROWS_AS(writer.commit_frame(11), invalid_frame_size_exception);
    writer.commit_frame();
    while (writer.try_write_frame(large.data(), 1000)) {
    }
    CHECK(thrown([&] { writer.write_frame(large.data(), 1000); }) == ErrorCode::buffer_full);
    CHECK_FALSE(writer.try_acquire_frame_buffer(1000).has_value());
    reader.reset();
    CHECK_FALSE(writer.is_reader_connected());
    writer.set_write_timeout(patience);
    CHECK_THROWS_AS(writer.write_frame(large.data(), 1000), reader_dead_exception);
}

TEST_CASE("a killed writer is told of after its last frame, and a killed reader at once") {
    const Name name("kills");
    Reader reader(name, small());
    {
        support::Process writer({support::self(), "role-writer", name});
        CHECK(writer.line() == "written");
        writer.kill();
    }
    CHECK(says(reader.read_frame(patience), "last words"));
    CHECK_THROWS_AS((void)reader.read_frame(patience), writer_dead_exception);
    CHECK_FALSE(reader.read_frame(0).valid());
    const Name other("kills");
    support::Process peer({support::self(), "role-reader", other});
    CHECK(peer.line() == "created");
    Writer writer(other);
    CHECK(writer.is_reader_connected());
    peer.kill();
    CHECK_THROWS_AS(
        {
            while (true) writer.write_frame("x", 1);
        },
        reader_dead_exception);
}

TEST_CASE("the system's refusals are exceptions with its number") {
    // A file of this name that is no buffer, and memory that there is not.
    const Name name("system");
    const std::string path = "/dev/shm/" + name.str();
    {
        std::FILE* file = std::fopen(path.c_str(), "w");
        REQUIRE(file != nullptr);
        const std::string text(8192, 'x');
        CHECK(std::fwrite(text.data(), 1, text.size(), file) == text.size());
        std::fclose(file);
    }
    CHECK_THROWS_AS((void)inspect::snapshot(name), incompatible_protocol_exception);
    CHECK_THROWS_AS(Writer{name}, incompatible_protocol_exception);
    CHECK_THROWS_AS(Reader{name}, incompatible_protocol_exception);
    const Name huge("huge");
    const auto preallocated = BufferConfig(64, std::size_t{1} << 44U).set_preallocate(true);
    try {
        const Reader reader(huge, preallocated);
        FAIL("16 TiB of memory");
    } catch (const out_of_memory_exception& error) {
        CHECK(error.os_error() != 0);
    }
    CHECK(huge.left().empty());
}

TEST_CASE("a buffer tells how much of it is in huge pages, and refuses a NUMA node that does not exist") {
    const Name name("huge-pages");
    auto config = BufferConfig(64, std::size_t{4} << 20U).set_numa_node(BufferConfig::numa_node_of_reader);
    CHECK(Reader(name, config).huge_page_bytes() == 0);
    Reader reader(name, config.set_huge_pages(true));
    CHECK(inspect::snapshot(name).memory >= std::uint64_t{4} << 20U);
    // Where the kernel has none to give, there are none.
    CHECK((reader.huge_page_bytes() == 0 || reader.huge_page_bytes() >= std::uint64_t{4} << 20U));
    reader.close();
    CHECK_THROWS_AS((void)reader.huge_page_bytes(), closed_exception);
    CHECK_THROWS_AS(Reader(name, config.set_numa_node(1000)), invalid_config_exception);
}

TEST_CASE("a spoilt buffer is an exception that tells what is spoilt") {
    constexpr long payload_size_at = 0x20;
    constexpr long ring_at = 128 + 64;
    constexpr long size_at = ring_at;
    constexpr long sequence_at = ring_at + 8;
    {
        const Name name("sequence");
        Reader reader(name, small().set_classic(true));
        Writer writer(name);
        writer.write_frame("x", 1);
        support::spoil(name, sequence_at, 7);
        CHECK_THROWS_AS((void)reader.read_frame(patience), sequence_error_exception);
        try {
            (void)reader.read_frame(patience);
            FAIL("the error does not stay");
        } catch (const sequence_error_exception& error) {
            CHECK(error.expected() == 1);
            CHECK(error.got() == 7);
        }
    }
    {
        const Name name("corrupt");
        Reader reader(name, small().set_classic(true));
        Writer writer(name);
        writer.write_frame("x", 1);
        support::spoil(name, size_at, std::uint64_t{1} << 40U);
        CHECK_THROWS_AS((void)reader.read_frame(patience), corrupt_buffer_exception);
    }
    const Name name("payload");
    const Reader reader(name, small());
    support::spoil(name, payload_size_at, 0);
    CHECK_THROWS_AS(Writer{name}, corrupt_buffer_exception);
}

TEST_CASE("who may not, and what the system has no more of") {
    const Name name("refused");
    const Reader reader(name, small());
    REQUIRE(chmod(("/dev/shm/" + name.str()).c_str(), 0) == 0);
    {
        const support::OtherUser other;
        try {
            const Writer writer(name);
            FAIL("the file's mode is 0");
        } catch (const permission_denied_exception& error) {
            CHECK(error.os_error() == EACCES);
        }
    }
    const Name other("no-files");
    std::exception_ptr thrown;
    {
        const support::NoFiles none;
        try {
            const Reader second(other, small());
        } catch (...) {
            // Looked at below: the sanitizers need descriptors for their own looks.
            thrown = std::current_exception();
        }
    }
    REQUIRE(thrown != nullptr);
    try {
        std::rethrow_exception(thrown);
    } catch (const system_exception& error) {
        CHECK(error.os_error() == EMFILE);
    }
}

TEST_CASE("a kept buffer waits for its reader with the frames in it") {
    const Name name("kept");
    KeptBuffer kept(name, small());
    CHECK(inspect::snapshot(name).kept);
    CHECK_FALSE(kept.is_adopted());
    Writer writer(name);
    writer.write_frame("early", 5);
    // Sizes that are not set are those of the kept buffer; others must be the same.
    CHECK_THROWS_AS(Reader(name, BufferConfig(64, 8192)), invalid_config_exception);
    Reader reader(name);
    CHECK(kept.is_adopted());
    CHECK(says(reader.read_frame(patience), "early"));
    CHECK(kept.close());
    CHECK_THROWS_AS((void)kept.is_adopted(), closed_exception);
}

TEST_CASE("a snapshot shows both sides and how full the ring is") {
    const Name name("inspect");
    Reader reader(name, small());
    auto shown = inspect::snapshot(name);
    CHECK(shown.name == name.str());
    CHECK(shown.ring == inspect::RingKind::undecided);
    CHECK(shown.reader.presence == inspect::Presence::alive);
    CHECK(shown.reader.pid == static_cast<std::uint64_t>(getpid()));
    CHECK(shown.writer.presence == inspect::Presence::absent);
    CHECK(shown.health == inspect::Health::healthy);
    CHECK(shown.age.has_value());
    Writer writer(name);
    const std::vector<std::uint8_t> frame(1000);
    while (writer.try_write_frame(frame)) {
    }
    shown = inspect::snapshot(name);
    CHECK(shown.ring == inspect::RingKind::extended);
    CHECK(shown.writer.presence == inspect::Presence::alive);
    CHECK(shown.writer.ours);
    CHECK(shown.health != inspect::Health::healthy);
    CHECK(shown.utilisation >= 0.8);
    CHECK(shown.written_count == writer.frames_written());
    CHECK(shown.defects.empty());
    const auto all = inspect::list();
    CHECK(std::find(all.begin(), all.end(), name.str()) != all.end());
    const Name classic("classic");
    Reader old(classic, small().set_classic(true));
    Writer{classic}.write_frame("x", 1);
    CHECK(inspect::snapshot(classic).ring == inspect::RingKind::classic);
    CHECK(says(old.read_frame(patience), "x"));
}

TEST_CASE("the log reaches a function of the user's, which may throw") {
    const Name name("log");
    std::vector<std::string> lines;
    set_log_handler(
        [&](LogLevel level, std::string_view target, std::string_view message) {
            CHECK(level <= LogLevel::debug);
            CHECK(target.starts_with("zerobuffer"));
            lines.emplace_back(message);
            throw std::runtime_error("dropped");
        },
        LogLevel::debug);
    {
        support::Process peer({support::self(), "role-reader", name});
        CHECK(peer.line() == "created");
        peer.kill();
        // Takes over what the dead one left, which is worth a line.
        const Reader reader(name, small());
    }
    CHECK_FALSE(lines.empty());
    const auto count = lines.size();
    set_log_handler({});
    support::Process peer({support::self(), "role-reader", name});
    CHECK(peer.line() == "created");
    peer.kill();
    const Reader reader(name, small());
    CHECK(lines.size() == count);
}
