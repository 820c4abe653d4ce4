/**
 * @file The handlers of an immutable duplex server.
 */
#ifndef ZEROBUFFER_DUPLEX_REQUEST_HANDLER_H
#define ZEROBUFFER_DUPLEX_REQUEST_HANDLER_H

#include <zerobuffer/frame.h>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <ranges>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

namespace zerobuffer {

/** Contiguous bytes, or an owner of contiguous bytes: `std::span`, `std::vector`, `std::string`, `std::array` ... */
template <typename T>
concept Bytes = std::ranges::contiguous_range<T> && std::ranges::sized_range<T> &&
                std::is_trivially_copyable_v<std::ranges::range_value_t<T>>;

/** A callable that can answer requests: it takes a frame and returns bytes or an owner of bytes. */
template <typename F>
concept AnswersRequests =
    std::invocable<F&, const Frame&> && Bytes<std::remove_cvref_t<std::invoke_result_t<F&, const Frame&>>>;

/**
 * Answers requests. It is made from any callable that takes a `const Frame&` and returns bytes.
 *
 * A callable that returns an owner (a vector, a string ...) never dangles: the owner lives until its bytes
 * are in the response buffer. A callable that returns a `std::span` promises that its bytes live until then.
 * Bytes of the request do, and so do bytes of an object that outlives the call; bytes of a local variable do
 * not.
 *
 * Copies share the callable.
 */
class RequestHandler {
public:
    /** Gets the bytes of an answer, while their owner lives. */
    using Sink = std::function<void(std::span<const std::uint8_t>)>;

    /** A handler that calls `callable`. Not explicit, so that a lambda can be passed to start(). */
    template <typename F>
        requires(!std::same_as<std::remove_cvref_t<F>, RequestHandler> && AnswersRequests<std::decay_t<F>>)
    RequestHandler(F&& callable)  // NOLINT(bugprone-forwarding-reference-overload): constrained above
        : callable_(std::make_shared<Model<std::decay_t<F>>>(std::forward<F>(callable))) {}

    /** Answers a request; the answer goes to `sink`, which is called once, before this returns. */
    void answer(const Frame& request, const Sink& sink) const { callable_->answer(request, sink); }

    /** Answers a request with a copy, for tests of handlers. */
    [[nodiscard]] std::vector<std::uint8_t> operator()(const Frame& request) const {
        std::vector<std::uint8_t> copy;
        answer(request, [&copy](std::span<const std::uint8_t> bytes) { copy.assign(bytes.begin(), bytes.end()); });
        return copy;
    }

private:
    struct Callable {
        Callable() = default;
        Callable(const Callable&) = delete;
        Callable& operator=(const Callable&) = delete;
        virtual ~Callable() = default;
        virtual void answer(const Frame& request, const Sink& sink) = 0;
    };

    template <typename F>
    struct Model final : Callable {
        template <typename G>
        explicit Model(G&& callable)  // NOLINT(bugprone-forwarding-reference-overload): only make_shared calls it
            : function(std::forward<G>(callable)) {}

        void answer(const Frame& request, const Sink& sink) override {
            // Its result is kept here while its bytes are used.
            auto&& owner = std::invoke(function, request);
            const auto bytes = std::as_bytes(std::span(std::ranges::data(owner), std::ranges::size(owner)));
            // uint8_t may alias any bytes.
            sink({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()});  // NOLINT
        }

        F function;
    };

    std::shared_ptr<Callable> callable_;
};

}  // namespace zerobuffer

#endif
