// Random calls by eight threads, with closes, interrupts, signals, forks and exits at random moments: nothing hangs, crashes, is torn
// or fails by a fault of the library itself. Each round is a process of its own, which another one watches.
//
// Usage: stress [SECONDS [SEED]]. With sanitizers no round forks: their allocators may be locked in a child.
#include <zerobuffer/zerobuffer.h>

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "support.h"

using namespace zerobuffer;
using Clock = std::chrono::steady_clock;

namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool forks = false;
#else
constexpr bool forks = true;
#endif

constexpr int threads = 8;
constexpr std::size_t buffers = 3;
constexpr auto round_time = std::chrono::milliseconds(1500);

/** What the threads share: each place holds a handle or none, and is replaced at random. */
template <typename T>
class Place {
public:
    std::shared_ptr<T> get() const {
        const std::lock_guard guard(mutex_);
        return object_;
    }
    void set(std::shared_ptr<T> object) {
        // The old one goes when the lock is free, and no thread uses it any more.
        {
            const std::lock_guard guard(mutex_);
            object_.swap(object);
        }
    }

private:
    mutable std::mutex mutex_;
    std::shared_ptr<T> object_;
};

struct World {
    explicit World(std::string prefix) : name(std::move(prefix)) {}

    std::string name;
    std::array<Place<Reader>, buffers> readers;
    std::array<Place<Writer>, buffers> writers;
    Place<ImmutableDuplexServer> server;
    Place<DuplexClient> client;
    std::atomic<bool> over = false;
};

[[noreturn]] void fail(const std::string& what) {
    std::fprintf(stderr, "stress: %s\n", what.c_str());
    std::_Exit(3);
}

/** What was written, whole: each byte tells of the size. */
void check(std::span<const std::uint8_t> bytes) {
    for (const auto byte : bytes) {
        if (byte != static_cast<std::uint8_t>(bytes.size())) fail("a frame is torn");
    }
}

class Caller {
public:
    Caller(World& shared, unsigned seed) : world(shared), random(seed) {}

    void run() {
        while (!world.over.load()) {
            try {
                step();
            } catch (const internal_exception& error) {
                fail(error.what());
            } catch (const zerobuffer_exception&) {  // NOLINT(bugprone-empty-catch)
                // Closed, interrupted, full, in use by another thread, and the like: what such calls must expect.
            }
        }
    }

private:
    unsigned pick(unsigned below) { return std::uniform_int_distribution<unsigned>(0, below - 1)(random); }

    std::vector<std::uint8_t> bytes() {
        const std::size_t size = 1 + pick(pick(4) == 0 ? 3000 : 100);
        return std::vector<std::uint8_t>(size, static_cast<std::uint8_t>(size));
    }

    void step() {
        const std::size_t number = pick(buffers);
        const std::string name = world.name + std::to_string(number);
        const std::string channel = world.name + "-channel";
        const auto timeout = static_cast<timeout_t>(pick(3));
        const auto reader = world.readers[number].get();
        const auto writer = world.writers[number].get();
        const auto client = world.client.get();
        const auto server = world.server.get();
        switch (pick(32)) {
            case 0: return world.readers[number].set(std::make_shared<Reader>(name, BufferConfig(64, 4096).set_classic(pick(4) == 0)));
            case 1: return world.writers[number].set(std::make_shared<Writer>(name, WriterOptions().set_write_timeout(1)));
            case 2: return pick(8) == 0 ? world.readers[number].set(nullptr) : void();
            case 3: return pick(8) == 0 ? world.writers[number].set(nullptr) : void();
            case 4: {
                auto made = std::make_shared<ImmutableDuplexServer>(channel, BufferConfig(64, 4096));
                made->onError([](const zerobuffer_exception&) {});
                const auto mode = pick(2) == 0 ? ProcessingMode::single_thread : ProcessingMode::thread_pool;
                if (pick(2) == 0) {
                    made->start([](const Frame& request) { return request.span(); }, mode);
                } else {
                    made->startInPlace(
                        [](const Frame& request, ResponseWriter& response) {
                            std::ranges::copy(request, response.acquire(request.size()).begin());
                            if (request.size() % 3 != 0) response.commit();
                        },
                        mode);
                }
                return world.server.set(std::move(made));
            }
            case 5: return world.client.set(std::make_shared<DuplexClient>(channel, ClientOptions().set_request_timeout(1).set_response_config(BufferConfig(64, 4096))));
            case 6: return pick(8) == 0 ? world.client.set(nullptr) : void();
            case 7: return pick(8) == 0 ? world.server.set(nullptr) : void();
            case 8: raise(SIGUSR1); return;
            default: break;
        }
        if (reader) use(*reader, timeout);
        if (writer) use(*writer);
        if (client) use(*client, timeout);
        if (server && pick(64) == 0) server->stop();
    }

    void use(Reader& reader, timeout_t timeout) {
        switch (pick(12)) {
            case 0: case 1: case 2: return hold(reader.read_frame(timeout));
            case 3: return hold(reader.try_read_frame());
            case 4: {
                std::vector<Frame> frames;
                reader.read_frames(frames, 100, timeout);
                for (auto& frame : frames) hold(std::move(frame));
                return;
            }
            case 5: {
                const std::lock_guard guard(lending);
                if (const FrameRef frame = reader.read_frame_ref(timeout); frame.valid() && pick(2) == 0) hold(reader.keep_frame_ref());
                return;
            }
            case 6: return static_cast<void>(reader.is_writer_connected());
            case 7: return static_cast<void>(reader.is_writer_connected(timeout));
            case 8: return static_cast<void>(reader.get_metadata());
            case 9: reader.interrupt(); return reader.clear_interrupt();
            case 10: return pick(8) == 0 ? reader.close() : reader.interrupt();
            default: return held.clear();
        }
    }

    void use(Writer& writer) {
        const auto data = bytes();
        switch (pick(9)) {
            case 0: case 1: writer.write_frame(data); return;
            case 2: writer.try_write_frame(data); return;
            case 3: writer.write_frame_within(data.data(), data.size(), pick(2)); return;
            case 4: {
                const std::array<std::span<const std::uint8_t>, 2> both = {data, data};
                writer.write_frames(both);
                return;
            }
            case 5: return static_cast<void>(writer.is_reader_connected());
            case 6: return writer.set_metadata("about");
            case 7: writer.interrupt(); return writer.clear_interrupt();
            default: return pick(8) == 0 ? writer.close() : writer.interrupt();
        }
    }

    void use(DuplexClient& client, timeout_t timeout) {
        const auto data = bytes();
        switch (pick(6)) {
            case 0: case 1: return check(client.call(data.data(), data.size(), timeout).span());
            case 2: return static_cast<void>(client.cancelRequest(client.sendRequest(data.data(), data.size())));
            case 3: return check(client.receiveResponse(timeout).span());
            case 4: {
                const auto place = client.acquireRequestBuffer(data.size()).second;
                std::memcpy(place.data(), data.data(), data.size());
                return pick(2) == 0 ? client.commitRequest() : client.discardRequest();
            }
            default: return pick(16) == 0 ? client.close() : void();
        }
    }

    void hold(Frame frame) {
        if (!frame.valid()) return;
        check(frame.span());
        held.push_back(std::move(frame));
        if (held.size() > 4) {
            check(held.front().span());
            held.erase(held.begin());
        }
    }

    World& world;
    std::mt19937 random;
    std::vector<Frame> held;
    static inline std::mutex lending;
};

/** Forks a child that closes whatever its parent's threads are using: it comes to its end, and takes nothing from the parent. */
void leave_to_the_parent(World& world) {
    std::vector<std::shared_ptr<Reader>> readers;
    std::vector<std::shared_ptr<Writer>> writers;
    for (const auto& place : world.readers) readers.push_back(place.get());
    for (const auto& place : world.writers) writers.push_back(place.get());
    const auto client = world.client.get();
    const pid_t child = fork();
    if (child == 0) {
        alarm(10);
        const auto calmly = [](auto call) {
            try {
                call();
            } catch (const internal_exception&) {
                _exit(4);
            } catch (const zerobuffer_exception&) {  // NOLINT(bugprone-empty-catch): the parent's handles refuse to work here
            }
        };
        for (const auto& reader : readers) {
            if (!reader) continue;
            calmly([&] { static_cast<void>(reader->read_frame(0)); });
            calmly([&] { static_cast<void>(reader->is_writer_connected()); });
            calmly([&] { reader->interrupt(); });
            calmly([&] { reader->close(); });
        }
        for (const auto& writer : writers) {
            if (!writer) continue;
            calmly([&] { writer->write_frame("child"); });
            calmly([&] { writer->close(); });
        }
        if (client) calmly([&] { static_cast<void>(client->call("child", 5, 0)); });
        if (client) calmly([&] { client->close(); });
        _exit(0);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) fail("cannot fork");
    if (status != 0) fail("a forked child ended with " + std::to_string(status));
}

/** One round, in a process of its own. */
int play(const std::string& name, unsigned seed) {
    std::mt19937 random(seed);
    const auto below = [&](unsigned most) { return std::uniform_int_distribution<unsigned>(0, most - 1)(random); };
    struct sigaction action {};
    action.sa_handler = [](int) {};
    sigaction(SIGUSR1, &action, nullptr);
    World world(name);
    std::vector<std::thread> callers;
    for (unsigned index = 0; index < threads; ++index) {
        callers.emplace_back([&world, seed, index] { Caller(world, seed * 100 + index).run(); });
    }
    const auto end = Clock::now() + round_time;
    while (Clock::now() < end) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1 + below(20)));
        pthread_kill(callers[below(threads)].native_handle(), SIGUSR1);
        if (forks && below(4) == 0) leave_to_the_parent(world);
    }
    // At any moment of the others' calls.
    if (seed % 3 == 0) std::exit(0);
    if (seed % 3 == 1) std::quick_exit(0);
    world.over = true;
    for (auto& caller : callers) caller.join();
    return 0;
}

}  // namespace

int main(int count, char** arguments) {
    if (count == 4 && std::string(arguments[1]) == "round") {
        return play(arguments[2], static_cast<unsigned>(std::strtoul(arguments[3], nullptr, 10)));
    }
    const auto seconds = std::chrono::seconds(count > 1 ? std::strtol(arguments[1], nullptr, 10) : 12);
    unsigned seed = count > 2 ? static_cast<unsigned>(std::strtoul(arguments[2], nullptr, 10)) : std::random_device()() % 1000000;
    const auto start = Clock::now();
    int rounds = 0;
    for (; Clock::now() - start < seconds; ++seed, ++rounds) {
        const std::string name = "zbtest-stress-" + std::to_string(getpid()) + "-" + std::to_string(seed) + "-";
        support::Process round({support::self(), "round", name, std::to_string(seed)});
        const auto began = Clock::now();
        std::optional<int> code;
        while (!code && Clock::now() - began < std::chrono::seconds(30)) {
            code = round.poll();
            if (!code) std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
        if (!code) fail("round " + std::to_string(seed) + " hangs");
        if (*code != 0) fail("round " + std::to_string(seed) + " ended with " + std::to_string(*code));
        for (std::size_t index = 0; index < buffers; ++index) support::remove_files(name + std::to_string(index));
        support::remove_files(name + "-channel");
    }
    std::printf("%d rounds of random calls\n", rounds);
    return 0;
}
