// Twenty buffers and a socket on one thread, by coroutines and epoll: `event_loop NAME` reads the buffers NAME-1 to NAME-20 until each
// writer has closed, and one line from each client of a socket, whose port it prints. `stream writer NAME-1` writes to one of them.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <coroutine>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <iostream>
#include <mutex>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <zerobuffer/zerobuffer.h>

namespace {

constexpr int buffers = 20;

[[noreturn]] void fail(const char* what) { throw std::system_error(errno, std::generic_category(), what); }

/** An event loop: runs what any thread posts, and tells of descriptors that are ready. */
class Loop {
public:
    Loop() : epoll_(epoll_create1(EPOLL_CLOEXEC)), posted_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) { watch(posted_); }
    Loop(const Loop&) = delete;
    Loop& operator=(const Loop&) = delete;
    ~Loop() { close(posted_), close(epoll_); }

    void post(std::function<void()> work) {
        const std::lock_guard lock(mutex_);
        queue_.push_back(std::move(work));
        const std::uint64_t one = 1;
        if (::write(posted_, &one, sizeof one) < 0) fail("eventfd");
    }

    void watch(int descriptor) const {
        epoll_event event{.events = EPOLLIN, .data = {.fd = descriptor}};
        if (epoll_ctl(epoll_, EPOLL_CTL_ADD, descriptor, &event) != 0) fail("epoll_ctl");
    }

    /** Runs until `done`. Calls `ready` with each descriptor that is ready. */
    template <typename Done, typename Ready>
    void run_until(Done done, Ready ready) {
        while (!done()) {
            std::array<epoll_event, 16> events{};
            const int count = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), -1);
            for (int index = 0; index < count; ++index) {
                const int descriptor = events.at(static_cast<std::size_t>(index)).data.fd;
                if (descriptor == posted_) {
                    run_posted();
                } else {
                    ready(descriptor);
                }
            }
        }
    }

private:
    void run_posted() {
        std::uint64_t count = 0;
        static_cast<void>(::read(posted_, &count, sizeof count));
        std::unique_lock lock(mutex_);
        for (auto work = std::exchange(queue_, {}); !work.empty(); work.pop_front()) {
            lock.unlock();
            work.front()();
            lock.lock();
        }
    }

    int epoll_;
    int posted_;
    std::mutex mutex_;
    std::deque<std::function<void()>> queue_;
};

/** A coroutine that starts at once, and that is not awaited. */
struct Detached {
    struct promise_type {
        Detached get_return_object() noexcept { return {}; }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_never final_suspend() noexcept { return {}; }
        void return_void() noexcept {}
        void unhandled_exception() noexcept {
            try {
                throw;
            } catch (const std::exception& error) {
                std::cerr << error.what() << '\n';
            }
            std::_Exit(1);
        }
    };
};

/** Prints the frames of one buffer, until the writer closes. */
Detached read(Loop& loop, std::string name, int number, int& open) {
    zerobuffer::Reader reader(name + "-" + std::to_string(number));
    const auto post = [&loop](std::function<void()> work) { loop.post(std::move(work)); };
    for (;;) {
        const zerobuffer::Frame frame = co_await reader.read_frame_async(post);
        if (frame.end_of_stream()) break;
        std::cout << number << ": " << std::string_view(reinterpret_cast<const char*>(frame.data()), frame.size()) << '\n';
    }
    std::cout << number << ": end of stream\n";
    --open;
}

int listen_here() {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    auto* const place = reinterpret_cast<sockaddr*>(&address);
    if (bind(listener, place, size) != 0 || listen(listener, 5) != 0 || getsockname(listener, place, &size) != 0) fail("socket");
    std::cout << "port " << ntohs(address.sin_port) << std::endl;
    return listener;
}

/** Prints the first line that a client of the socket sends. */
void serve(int listener) {
    const int client = accept(listener, nullptr, nullptr);
    std::string line;
    for (char next = 0; ::read(client, &next, 1) == 1 && next != '\n';) line += next;
    std::cout << "socket: " << line << '\n';
    close(client);
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 2) {
        std::cerr << "usage: event_loop NAME\n";
        return 2;
    }
    try {
        Loop loop;
        int open = buffers;
        for (int number = 1; number <= buffers; ++number) read(loop, arguments[1], number, open);
        loop.watch(listen_here());
        loop.run_until([&] { return open == 0; }, serve);
    } catch (const std::exception& error) {
        std::cerr << error.what() << '\n';
        return 1;
    }
}
