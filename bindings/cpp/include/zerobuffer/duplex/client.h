/**
 * @file
 * The client of a duplex channel.
 */
#ifndef ZEROBUFFER_DUPLEX_CLIENT_H
#define ZEROBUFFER_DUPLEX_CLIENT_H

#include <zerobuffer/awaitable.h>
#include <zerobuffer/config.h>
#include <zerobuffer/frame.h>
#include <zerobuffer/version.h>

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <future>
#include <limits>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>

namespace zerobuffer {

namespace detail {

/** A number of milliseconds as the nearest `int`. */
template <std::integral Milliseconds>
constexpr int clamped(Milliseconds timeout_ms) noexcept {
    if (std::in_range<int>(timeout_ms)) return static_cast<int>(timeout_ms);
    return timeout_ms < 0 ? std::numeric_limits<int>::min() : std::numeric_limits<int>::max();
}

}  // namespace detail

/**
 * Called once with the outcome of a call: a response, or why there is none. It must not wait, and should only pass the outcome on. It may
 * call any function of the library, but not destroy the client. An exception that leaves it ends the program.
 */
using CallCallback = std::function<void(Frame response, std::exception_ptr error)>;

/**
 * The side of a duplex channel that sends requests. Any thread may call any function at any time.
 *
 * Each request has exactly one outcome. call() sends a request and waits for its outcome. receiveResponse()
 * returns, in the order of arrival, the outcomes of requests that were sent by other functions. After the end
 * of the channel, every call throws that end.
 *
 * Your own class, for example for tests, must implement the pure functions. Each other function throws
 * std::logic_error unless overridden.
 */
class IDuplexClient {
public:
    IDuplexClient() = default;
    IDuplexClient(const IDuplexClient&) = delete;
    IDuplexClient& operator=(const IDuplexClient&) = delete;
    virtual ~IDuplexClient() = default;

    /**
     * Copies the bytes into the request buffer as one request; returns its sequence number. Its response is for
     * receiveResponse(). Waits for space up to ClientOptions::request_timeout().
     *
     * @throws invalid_frame_size_exception (0 bytes), frame_too_large_exception, buffer_full_exception, out_of_memory_exception
     * @throws invalid_state_exception if this thread has acquired a request buffer
     * @throws reader_dead_exception, writer_dead_exception, closed_exception, or another exception that ended the channel
     */
    virtual std::uint64_t sendRequest(const void* data, std::size_t size) = 0;

    /**
     * Like sendRequest(), with a deadline. If the server has not started the request within `timeout_ms`, it
     * does not start it, and the outcome is deadline_exceeded_exception.
     */
    virtual std::uint64_t sendRequestWithin(const void* data, std::size_t size, timeout_t timeout_ms) {
        static_cast<void>(data), static_cast<void>(size), static_cast<void>(timeout_ms);
        detail::unsupported("IDuplexClient::sendRequestWithin");
    }

    /** As sendRequestWithin(const void*, std::size_t, timeout_t). */
    std::uint64_t sendRequestWithin(const void* data, std::size_t size, std::chrono::milliseconds timeout) {
        return sendRequestWithin(data, size, timeout_t{timeout.count()});
    }

    /**
     * Acquires bytes of the request buffer, to be filled in place, and the sequence number that the request
     * will have. Call commitRequest(), callAcquired() or discardRequest() afterwards, on this thread. Other
     * threads that send wait meanwhile.
     *
     * Throws like sendRequest().
     */
    virtual std::pair<std::uint64_t, std::span<std::uint8_t>> acquireRequestBuffer(std::size_t size) = 0;

    /**
     * Sends the request that this thread has acquired.
     *
     * @throws invalid_state_exception if this thread has acquired none; closed_exception or whatever ended the channel meanwhile
     */
    virtual void commitRequest() = 0;

    /** Discards the request that this thread has acquired. Throws like commitRequest(). */
    virtual void discardRequest() { detail::unsupported("IDuplexClient::discardRequest"); }

    /**
     * Waits up to `timeout_ms` for the next response that no other caller waits for; returns an invalid frame
     * when the time is over.
     *
     * @throws request_failed_exception, cancelled_exception, deadline_exceeded_exception, about one request
     * (zerobuffer_exception::sequence())
     * @throws writer_dead_exception or reader_dead_exception (the server died or stopped), closed_exception, or another
     * exception that ended the channel
     */
    [[nodiscard]] virtual Frame receiveResponse(int timeout_ms) = 0;

    /** As receiveResponse(int). Longer times than an `int` can hold count as the longest. */
    template <std::integral Milliseconds>
    [[nodiscard]] Frame receiveResponse(Milliseconds timeout_ms) {
        return receiveResponse(detail::clamped(timeout_ms));
    }

    /** As receiveResponse(int). */
    [[nodiscard]] Frame receiveResponse(std::chrono::milliseconds timeout) { return receiveResponse(timeout.count()); }

    /**
     * Like receiveResponse(), for a single request.
     *
     * @throws invalid_state_exception if its outcome has been returned already, or there was no such request
     */
    [[nodiscard]] virtual Frame receiveResponseTo(std::uint64_t sequence, timeout_t timeout_ms) {
        static_cast<void>(sequence), static_cast<void>(timeout_ms);
        detail::unsupported("IDuplexClient::receiveResponseTo");
    }

    /** As receiveResponseTo(std::uint64_t, timeout_t). */
    [[nodiscard]] Frame receiveResponseTo(std::uint64_t sequence, std::chrono::milliseconds timeout) {
        return receiveResponseTo(sequence, timeout_t{timeout.count()});
    }

    /**
     * Sends a request and waits for its response, while other threads may send and receive.
     *
     * @throws request_failed_exception with the handler's message, deadline_exceeded_exception,
     * cancelled_exception
     * @throws buffer_full_exception after `timeout_ms`, and all other exceptions of sendRequest()
     */
    [[nodiscard]] virtual Frame call(const void* data, std::size_t size, timeout_t timeout_ms) {
        static_cast<void>(data), static_cast<void>(size), static_cast<void>(timeout_ms);
        detail::unsupported("IDuplexClient::call");
    }

    /** As call(const void*, std::size_t, timeout_t). */
    [[nodiscard]] Frame call(const void* data, std::size_t size, std::chrono::milliseconds timeout) {
        return call(data, size, timeout_t{timeout.count()});
    }

    /**
     * Sends a request, copied, and returns at once. `callback` is called once with its outcome, which comes within `timeout_ms`: by a thread of
     * the library, by one that is in a call of this client, or by this one before the function returns. `call`, which may be null, gets
     * the number for cancelCall(). When the client is closed, or the channel ends, the callbacks of all calls under way get that
     * exception.
     *
     * Throws like sendRequest(), except for missing space, which the request waits for; then the callback is not called.
     */
    virtual void callAsync(const void* data, std::size_t size, timeout_t timeout_ms, const CallCallback& callback,
                           std::uint64_t* call = nullptr) {
        static_cast<void>(data), static_cast<void>(size), static_cast<void>(timeout_ms), static_cast<void>(callback), static_cast<void>(call);
        detail::unsupported("IDuplexClient::callAsync");
    }

    /** As callAsync(const void*, std::size_t, timeout_t, const CallCallback&, std::uint64_t*). The outcome is that of the future. */
    [[nodiscard]] std::future<Frame> callAsync(const void* data, std::size_t size, timeout_t timeout_ms) {
        const auto promise = std::make_shared<std::promise<Frame>>();
        callAsync(data, size, timeout_ms, [promise](Frame response, std::exception_ptr error) {
            if (error) {
                promise->set_exception(std::move(error));
            } else {
                promise->set_value(std::move(response));
            }
        });
        return promise->get_future();
    }

#ifdef __cpp_impl_coroutine
    /** As callAsync(const void*, std::size_t, timeout_t, const CallCallback&, std::uint64_t*), for coroutines: see awaitable.h for `post`. */
    template <std::invocable<Posted> Post>
    [[nodiscard]] auto callAsync(const void* data, std::size_t size, timeout_t timeout_ms, Post post) {
        return detail::Calling<IDuplexClient, Frame, Post>(*this, data, size, timeout_ms, std::move(post));
    }
#endif

    /**
     * Withdraws a call of callAsync(), and its request. Returns whether it was still under way: then its callback is not called any
     * more. If not, it has been called, or is being called.
     */
    virtual bool cancelCall(std::uint64_t call) {
        static_cast<void>(call);
        detail::unsupported("IDuplexClient::cancelCall");
    }

    /** Sends the request that this thread has acquired, and waits for its response. Throws like call(). */
    [[nodiscard]] virtual Frame callAcquired(timeout_t timeout_ms) {
        static_cast<void>(timeout_ms);
        detail::unsupported("IDuplexClient::callAcquired");
    }

    /** As callAcquired(timeout_t). */
    [[nodiscard]] Frame callAcquired(std::chrono::milliseconds timeout) { return callAcquired(timeout_t{timeout.count()}); }

    /**
     * Cancels a request: its outcome is cancelled_exception, at once. Returns whether the request was still
     * under way.
     *
     * Throws the exception that ended the channel.
     */
    virtual bool cancelRequest(std::uint64_t sequence) {
        static_cast<void>(sequence);
        detail::unsupported("IDuplexClient::cancelRequest");
    }

    /**
     * Describes this client to the server (IDuplexServer::onInit()). At most once per client.
     *
     * @throws metadata_already_written_exception, metadata_too_large_exception, closed_exception
     */
    virtual void setMetadata(const void* data, std::size_t size) {
        static_cast<void>(data), static_cast<void>(size);
        detail::unsupported("IDuplexClient::setMetadata");
    }

    /** Whether the server lives and reads requests. */
    [[nodiscard]] virtual bool isServerConnected() const = 0;

    /** The largest request, in bytes. */
    [[nodiscard]] virtual std::size_t maxRequestSize() const { detail::unsupported("IDuplexClient::maxRequestSize"); }

    /** The channel's name; empty unless overridden. */
    [[nodiscard]] virtual std::string channel() const { return {}; }

    /** Closes the client. Waiting calls of other threads throw closed_exception. Responses that are still held stay valid. */
    virtual void close() { detail::unsupported("IDuplexClient::close"); }
};

/** The client that the library makes; see IDuplexClient. */
class DuplexClient final : public IDuplexClient {
public:
    /**
     * Connects to the server of the channel, and creates the response buffer.
     *
     * @throws buffer_not_found_exception if there is no server, reader_dead_exception if it died
     * @throws writer_already_connected_exception if it has a client; those of Reader and Writer
     */
    explicit DuplexClient(const std::string& channel, const ClientOptions& options = ClientOptions()) {
        detail::check_abi();
        zb_client* client = nullptr;
        detail::call(zb_client_connect_n, channel.data(), channel.size(), static_cast<const zb_client_options*>(options.to_c().get()), &client);
        client_.reset(client);
    }

    std::uint64_t sendRequest(const void* data, std::size_t size) override {
        std::uint64_t sequence = 0;
        detail::call(zb_client_send_request, handle(), bytes(data), size, &sequence);
        return sequence;
    }

    std::uint64_t sendRequestWithin(const void* data, std::size_t size, timeout_t timeout_ms) override {
        std::uint64_t sequence = 0;
        detail::call(zb_client_send_request_within, handle(), bytes(data), size, timeout_ms, &sequence);
        return sequence;
    }

    std::pair<std::uint64_t, std::span<std::uint8_t>> acquireRequestBuffer(std::size_t size) override {
        std::uint64_t sequence = 0;
        std::uint8_t* data = nullptr;
        detail::call(zb_client_acquire_request_buffer, handle(), size, &sequence, &data);
        return {sequence, {data, size}};
    }

    void commitRequest() override { detail::call(zb_client_commit_request, handle(), static_cast<std::uint64_t*>(nullptr)); }

    void discardRequest() override { detail::call(zb_client_discard_request, handle()); }

    using IDuplexClient::call;
    using IDuplexClient::callAsync;
    using IDuplexClient::callAcquired;
    using IDuplexClient::receiveResponse;
    using IDuplexClient::receiveResponseTo;
    using IDuplexClient::sendRequestWithin;

    [[nodiscard]] Frame receiveResponse(int timeout_ms) override {
        Frame response;
        detail::call(zb_client_receive_response, handle(), timeout_t{timeout_ms}, detail::FrameAccess::out(response));
        return response;
    }

    [[nodiscard]] Frame receiveResponseTo(std::uint64_t sequence, timeout_t timeout_ms) override {
        Frame response;
        detail::call(zb_client_receive_response_to, handle(), sequence, timeout_ms, detail::FrameAccess::out(response));
        return response;
    }

    [[nodiscard]] Frame call(const void* data, std::size_t size, timeout_t timeout_ms) override {
        Frame response;
        detail::call(zb_client_call, handle(), bytes(data), size, timeout_ms, detail::FrameAccess::out(response));
        return response;
    }

    [[nodiscard]] Frame callAcquired(timeout_t timeout_ms) override {
        Frame response;
        detail::call(zb_client_call_acquired, handle(), timeout_ms, detail::FrameAccess::out(response));
        return response;
    }

    void callAsync(const void* data, std::size_t size, timeout_t timeout_ms, const CallCallback& callback,
                   std::uint64_t* call = nullptr) override {
        if (!callback) throw std::invalid_argument("zerobuffer: an empty callback");
        const zb_call_done done = [](void* user_data, zb_status, zb_frame* raw, const zb_error* error) noexcept {
            Frame response;
            *detail::FrameAccess::out(response) = *raw;
            std::exception_ptr why;
            if (error != nullptr) {
                try {
                    detail::Error::raise(error);
                } catch (...) {
                    why = std::current_exception();
                }
            }
            (*static_cast<CallCallback*>(user_data))(std::move(response), std::move(why));
        };
        const zb_destroy destroy = [](void* user_data) noexcept { delete static_cast<CallCallback*>(user_data); };
        // The library takes it over, and destroys it even if it refuses it.
        void* const owned = std::make_unique<CallCallback>(callback).release();
        detail::call(zb_client_call_async, handle(), bytes(data), size, timeout_ms, done, owned, destroy, call);
    }

    bool cancelCall(std::uint64_t call) override {
        bool waited = false;
        detail::call(zb_client_cancel_call, handle(), call, &waited);
        return waited;
    }

    bool cancelRequest(std::uint64_t sequence) override {
        bool under_way = false;
        detail::call(zb_client_cancel_request, handle(), sequence, &under_way);
        return under_way;
    }

    void setMetadata(const void* data, std::size_t size) override {
        detail::call(zb_client_set_metadata, handle(), bytes(data), size);
    }

    [[nodiscard]] bool isServerConnected() const override { return zb_client_is_server_connected(client_.get()); }

    [[nodiscard]] std::size_t maxRequestSize() const override { return zb_client_max_request_size(client_.get()); }

    [[nodiscard]] std::string channel() const override { return zb_client_channel(client_.get()); }

    void close() override { detail::call(zb_client_close, handle()); }

private:
    [[nodiscard]] const zb_client* handle() const noexcept { return client_.get(); }

    static const std::uint8_t* bytes(const void* data) noexcept { return static_cast<const std::uint8_t*>(data); }

    detail::Owned<zb_client, zb_client_free> client_;
};

}  // namespace zerobuffer

#endif
