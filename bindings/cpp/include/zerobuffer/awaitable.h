/**
 * @file
 * What coroutines await: frames, space and responses. Empty where the compiler has no coroutines.
 *
 * Each awaitable takes `post`, which the program's executor provides: it is called with a function of no arguments, on any thread, and has the
 * executor run that function soon, on the thread (or one of the threads) of the coroutine. Nothing else of the library runs there.
 *
 * @code
 * zerobuffer::Frame frame = co_await reader.read_frame_async([&](auto function) { loop.post(std::move(function)); });
 * @endcode
 *
 * A coroutine may be destroyed while it waits, in its executor's thread: a frame that it has not been given stays in the buffer. `close()`, on
 * any thread, ends the wait with closed_exception. The reader, writer or client must live for as long as a coroutine waits for it.
 */
#ifndef ZEROBUFFER_AWAITABLE_H
#define ZEROBUFFER_AWAITABLE_H

#ifdef __cpp_impl_coroutine

#include <zerobuffer/config.h>
#include <zerobuffer/notify.h>

#include <atomic>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

namespace zerobuffer {

/** What an executor is asked to run. */
using Posted = std::function<void()>;

namespace detail {

/** A coroutine that waits, as the callbacks that wake it know it. They may outlive the coroutine. */
template <typename Result, typename Post>
struct Waiting {
    explicit Waiting(Post how) : post(std::move(how)) {}

    /** Has the executor run `work`, which keeps this alive, unless the coroutine is gone by then. */
    template <typename Work>
    void run(Work work) {
        if (gone) return;
        post(Posted([this, work = std::move(work)] {
            if (!gone) work();
        }));
    }

    [[nodiscard]] bool is_over() const noexcept { return found.has_value() || error; }

    Result take() {
        coroutine = nullptr;
        if (error) std::rethrow_exception(error);
        return std::move(*found);
    }

    Post post;
    std::coroutine_handle<> coroutine;
    std::optional<Result> found;
    std::exception_ptr error;
    std::atomic<bool> gone = false;
};

/** What a reader or writer finds, as soon as it does. `Look` returns it, or nothing. */
template <typename Source, typename Look, typename Post>
class [[nodiscard]] Search {
public:
    using Result = typename std::invoke_result_t<Look&, Source&>::value_type;

    Search(Source& source, Look look, Post post) : state_(std::make_shared<State>(source, std::move(look), std::move(post))) {}
    Search(const Search&) = delete;
    Search& operator=(const Search&) = delete;

    ~Search() {
        if (!state_->coroutine) return;
        state_->gone = true;
        try {
            state_->source.cancel_notify();
        } catch (const zerobuffer_exception&) {
            // It is closed, and so the callback has been called off.
        }
    }

    bool await_ready() { return state_->find(); }

    bool await_suspend(std::coroutine_handle<> coroutine) {
        state_->coroutine = coroutine;
        return State::ask(state_);
    }

    Result await_resume() { return state_->take(); }

private:
    struct State : Waiting<Result, Post> {
        State(Source& from, Look how, Post to) : Waiting<Result, Post>(std::move(to)), source(from), look(std::move(how)) {}

        bool find() noexcept {
            try {
                this->found = look(source);
            } catch (...) {
                this->error = std::current_exception();
            }
            return this->is_over();
        }

        /**
         * Asks to be told when there may be something. False if that fails: then the error is there. If it succeeds, another thread may
         * have gone on with the coroutine, which keeps `self`.
         */
        static bool ask(const std::shared_ptr<State>& self) {
            const State* const before = std::exchange(asking, self.get());
            bool asked = true;
            try {
                // Told when the callback is destroyed: after its call, or uncalled, when the source is closed.
                std::shared_ptr<void> tells(nullptr, [self](void*) { tell(self); });
                self->source.notify([tells = std::move(tells)] {});
            } catch (...) {
                self->error = std::current_exception();
                asked = false;
            }
            asking = before;
            return asked;
        }

        static void tell(const std::shared_ptr<State>& self) {
            // A request that fails has its callback destroyed within the call.
            if (asking == self.get()) return;
            self->run([self] {
                if (self->find() || !ask(self)) self->coroutine.resume();
            });
        }

        Source& source;
        Look look;
        /** What this thread is asking for. */
        static inline thread_local const State* asking = nullptr;
    };

    std::shared_ptr<State> state_;
};

/** The outcome of a call. */
template <typename Client, typename Result, typename Post>
class [[nodiscard]] Calling {
public:
    Calling(Client& client, const void* data, std::size_t size, timeout_t timeout_ms, Post post)
        : client_(client), data_(data), size_(size), timeout_ms_(timeout_ms), state_(std::make_shared<State>(std::move(post))) {}
    Calling(const Calling&) = delete;
    Calling& operator=(const Calling&) = delete;

    ~Calling() {
        if (!state_->coroutine) return;
        state_->gone = true;
        client_.cancelCall(call_);
    }

    bool await_ready() const noexcept { return false; }

    void await_suspend(std::coroutine_handle<> coroutine) {
        state_->coroutine = coroutine;
        try {
            client_.callAsync(data_, size_, timeout_ms_, Outcome{state_}, &call_);
        } catch (...) {
            state_->coroutine = nullptr;
            throw;
        }
    }

    Result await_resume() { return state_->take(); }

private:
    using State = Waiting<Result, Post>;

    struct Outcome {
        void operator()(Result response, const std::exception_ptr& error) const {
            if (error) {
                state->error = error;
            } else {
                state->found = std::move(response);
            }
            state->run([state = state] { state->coroutine.resume(); });
        }

        std::shared_ptr<State> state;
    };

    Client& client_;
    const void* data_;
    std::size_t size_;
    timeout_t timeout_ms_;
    std::shared_ptr<State> state_;
    std::uint64_t call_ = 0;
};

}  // namespace detail
}  // namespace zerobuffer

#endif
#endif
