// Coroutines that await frames, space and responses; callbacks that come once.
#include <doctest/doctest.h>
#include <zerobuffer/zerobuffer.h>

#include <atomic>
#include <condition_variable>
#include <coroutine>
#include <deque>
#include <exception>
#include <functional>
#include <future>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support.h"

using namespace zerobuffer;
using support::Name;
using support::patience;

namespace {

BufferConfig small() { return {64, 4096}; }

/** An executor of one thread: the one that runs it. */
class Loop {
public:
    void post(std::function<void()> work) {
        const std::lock_guard lock(mutex_);
        queue_.push_back(std::move(work));
        changed_.notify_one();
    }

    /** What awaitables are given. */
    auto poster() {
        return [this](std::function<void()> work) { post(std::move(work)); };
    }

    /** Runs what is posted until `done`. */
    template <typename Done>
    void run_until(Done done) {
        while (!done()) {
            std::unique_lock lock(mutex_);
            if (!changed_.wait_for(lock, std::chrono::milliseconds(patience), [this] { return !queue_.empty(); })) {
                throw std::runtime_error("nothing was posted");
            }
            const auto work = std::move(queue_.front());
            queue_.pop_front();
            lock.unlock();
            work();
        }
    }

    /** Runs what has been posted. */
    void run_rest() {
        std::unique_lock lock(mutex_);
        while (!queue_.empty()) {
            const auto work = std::move(queue_.front());
            queue_.pop_front();
            lock.unlock();
            work();
            lock.lock();
        }
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<std::function<void()>> queue_;
};

/** A coroutine that starts at once, and is destroyed with this. */
class Task {
public:
    struct promise_type {
        bool done = false;
        std::exception_ptr error;
        Task get_return_object() { return Task(std::coroutine_handle<promise_type>::from_promise(*this)); }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_always final_suspend() noexcept { return {}; }
        void return_void() noexcept { done = true; }
        void unhandled_exception() noexcept { error = std::current_exception(), done = true; }
    };

    Task(const Task&) = delete;
    Task& operator=(const Task&) = delete;
    Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Task& operator=(Task&&) = delete;
    ~Task() {
        if (handle_) handle_.destroy();
    }

    [[nodiscard]] bool done() const { return handle_.promise().done; }

    /** Throws what the coroutine has thrown. */
    void check() const {
        if (handle_.promise().error) std::rethrow_exception(handle_.promise().error);
    }

private:
    explicit Task(std::coroutine_handle<promise_type> handle) : handle_(handle) {}
    std::coroutine_handle<promise_type> handle_;
};

void run(Loop& loop, const Task& task) {
    loop.run_until([&] { return task.done(); });
    task.check();
}

std::string text_of(const Frame& frame) { return {frame.begin(), frame.end()}; }

Task read_all(Loop& loop, Reader& reader, std::vector<std::string>& got) {
    for (;;) {
        const Frame frame = co_await reader.read_frame_async(loop.poster());
        if (frame.end_of_stream()) co_return;
        got.push_back(text_of(frame));
    }
}

Task write_all(Loop& loop, Writer& writer, int count) {
    for (int number = 0; number < count; ++number) {
        // Four fit: most of them wait for space.
        const std::string text(1000, static_cast<char>('a' + number % 26));
        const auto sequence = co_await writer.write_frame_async(text, loop.poster());
        if (sequence != static_cast<std::uint64_t>(number) + 1) throw std::logic_error("another number");
    }
    writer.close();
}

Task read_one(Loop& loop, Reader& reader, Frame& frame) { frame = co_await reader.read_frame_async(loop.poster()); }

Task read_newest(Loop& loop, Reader& reader, Frame& frame) { frame = co_await reader.read_latest_frame_async(loop.poster()); }

Task write_one(Loop& loop, Writer& writer, const std::string& text) { co_await writer.write_frame_async(text, loop.poster()); }

Task call_one(Loop& loop, IDuplexClient& client, const std::string& text, std::string& answer) {
    answer = text_of(co_await client.callAsync(text.data(), text.size(), patience, loop.poster()));
}

}  // namespace

TEST_CASE("two coroutines of one thread pass frames through a buffer that holds four") {
    const Name name("co-pass");
    Loop loop;
    std::vector<std::string> got;
    Reader reader(name, small());
    Writer writer(name);
    const Task reading = read_all(loop, reader, got);
    const Task writing = write_all(loop, writer, 200);
    run(loop, writing);
    run(loop, reading);
    REQUIRE(got.size() == 200);
    for (std::size_t number = 0; number < got.size(); ++number) {
        REQUIRE(got[number] == std::string(1000, static_cast<char>('a' + number % 26)));
    }
}

TEST_CASE("a coroutine that is destroyed while it waits loses no frame") {
    const Name name("co-destroyed");
    Loop loop;
    Reader reader(name, small());
    Writer writer(name);
    for (int number = 0; number < 100; ++number) {
        Frame frame;
        const auto text = std::to_string(number);
        {
            const Task waiting = read_one(loop, reader, frame);
            if (number % 2 == 0) writer.write_frame(text);
            if (number % 4 == 0) std::this_thread::yield();
        }
        loop.run_rest();
        REQUIRE_FALSE(frame.valid());
        if (number % 2 != 0) writer.write_frame(text);
        run(loop, read_one(loop, reader, frame));
        REQUIRE(text_of(frame) == text);
    }
    loop.run_rest();
}

TEST_CASE("closing the reader or the writer, by any thread, ends the coroutines that wait for it") {
    const Name name("co-closed");
    for (const bool by_thread : {false, true}) {
        Loop loop;
        Frame frame;
        Reader reader(name, small());
        Writer writer(name);
        while (writer.try_write_frame(std::string(1000, 'x'))) {
        }
        const std::string text(1000, 'y');
        const Task writing = write_one(loop, writer, text);
        const auto close = [&](auto& end) {
            if (by_thread) {
                std::thread([&] { end.close(); }).join();
            } else {
                end.close();
            }
        };
        REQUIRE_FALSE(writing.done());
        close(writer);
        CHECK_THROWS_AS(run(loop, writing), closed_exception);
        while (!reader.read_frame(0).end_of_stream()) {
        }
        const Task reading = read_one(loop, reader, frame);
        REQUIRE_FALSE(reading.done());
        close(reader);
        CHECK_THROWS_AS(run(loop, reading), closed_exception);
        CHECK_THROWS_AS(run(loop, read_one(loop, reader, frame)), closed_exception);
    }
}

TEST_CASE("a coroutine gets the newest frame, and the end") {
    const Name name("co-newest");
    Loop loop;
    Frame frame;
    Reader reader(name, small());
    Writer writer(name);
    for (const char* text : {"old", "older", "newest"}) writer.write_frame(std::string_view(text));
    run(loop, read_newest(loop, reader, frame));
    CHECK(text_of(frame) == "newest");
    CHECK(reader.frames_skipped() == 2);
    const Task waiting = read_newest(loop, reader, frame);
    writer.close();
    run(loop, waiting);
    CHECK(frame.end_of_stream());
}

TEST_CASE("calls are awaited by coroutines, futures and callbacks") {
    const Name name("co-call");
    auto& factory = IDuplexChannelFactory::getInstance();
    auto server = factory.createImmutableServer(name, BufferConfig(64, 1 << 20));
    std::mutex held;
    server->start([&](const Frame& request) {
        const std::string text = text_of(request);
        if (text == "fail") throw std::runtime_error("as asked");
        if (text == "hold") {
            const std::lock_guard wait(held);
        }
        return text + text;
    });
    auto client = factory.createClient(name);
    Loop loop;
    std::string answer;
    run(loop, call_one(loop, *client, "one", answer));
    CHECK(answer == "oneone");
    CHECK_THROWS_AS(run(loop, call_one(loop, *client, "fail", answer)), request_failed_exception);
    CHECK_THROWS_AS(run(loop, call_one(loop, *client, "", answer)), invalid_frame_size_exception);

    std::future<Frame> future = client->callAsync("two", 3, patience);
    CHECK(text_of(future.get()) == "twotwo");
    future = client->callAsync("fail", 4, patience);
    CHECK_THROWS_AS(static_cast<void>(future.get()), request_failed_exception);

    std::atomic<int> called = 0;
    {
        const std::lock_guard hold(held);
        std::uint64_t call = 0;
        client->callAsync("hold", 4, patience, [&](const Frame&, const std::exception_ptr&) { ++called; }, &call);
        CHECK(client->cancelCall(call));
        CHECK_FALSE(client->cancelCall(call));
        // A coroutine that goes withdraws its call.
        const std::string text = "hold";
        const Task gone = call_one(loop, *client, text, answer);
        CHECK_FALSE(gone.done());
    }
    future = client->callAsync("last", 4, patience);
    CHECK(text_of(future.get()) == "lastlast");
    CHECK(called == 0);
    {
        const std::lock_guard hold(held);
        const std::string text = "hold";
        const Task ended = call_one(loop, *client, text, answer);
        future = client->callAsync("hold", 4, patience);
        client->close();
        CHECK_THROWS_AS(run(loop, ended), closed_exception);
        CHECK_THROWS_AS(static_cast<void>(future.get()), closed_exception);
    }
    loop.run_rest();
    server->stop();
}

TEST_CASE("a callback comes once, or is called off") {
    const Name name("co-notify");
    Reader reader(name, small());
    Writer writer(name);
    std::promise<void> told;
    reader.notify([&] { told.set_value(); });
    told.get_future().get();
    REQUIRE_FALSE(reader.read_frame(0).valid());
    reader.notify([] { FAIL("it was called off"); });
    CHECK(reader.cancel_notify());
    CHECK_FALSE(reader.cancel_notify());
    std::promise<void> frame;
    reader.notify([&] { frame.set_value(); });
    writer.write_frame(std::string_view("news"));
    frame.get_future().get();
    CHECK(text_of(reader.read_frame(0)) == "news");
    std::promise<void> space;
    writer.notify([&] { space.set_value(); });
    space.get_future().get();
    CHECK_FALSE(writer.cancel_notify());
    CHECK_THROWS_AS(reader.notify({}), std::invalid_argument);
}
