/**
 * @file
 * The servers of duplex channels.
 */
#ifndef ZEROBUFFER_DUPLEX_SERVER_H
#define ZEROBUFFER_DUPLEX_SERVER_H

#include <zerobuffer/config.h>
#include <zerobuffer/duplex/request_handler.h>
#include <zerobuffer/duplex/response_writer.h>
#include <zerobuffer/version.h>

#include <chrono>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>

namespace zerobuffer {

/** How a server runs its handler. */
enum class ProcessingMode : zb_processing_mode {
    /** One request after the other, on the thread that reads the request buffer. */
    single_thread = ZB_SINGLE_THREAD,
    /** Several requests at once: the handler is called from several threads, and responses may overtake each other. */
    thread_pool = ZB_THREAD_POOL,
};

/** Gets an error, on a thread of the server. Its exceptions are dropped. */
using ErrorHandler = std::function<void(const zerobuffer_exception& error)>;

/** Gets a client's metadata, on a thread of the server, before its next request is handled. Its exceptions are dropped. */
using InitHandler = std::function<void(std::span<const std::uint8_t> metadata)>;

/**
 * The side of a duplex channel that answers requests. Any thread may call any function at any time.
 *
 * A server outlives its clients: when a client closes or dies, the next one can connect. Destroying the
 * server stops it.
 *
 * Your own class, for example for tests, must implement the pure functions. Each other function throws
 * std::logic_error unless overridden.
 */
class IDuplexServer {
public:
    IDuplexServer() = default;
    IDuplexServer(const IDuplexServer&) = delete;
    IDuplexServer& operator=(const IDuplexServer&) = delete;
    virtual ~IDuplexServer() = default;

    /**
     * Stops processing: clients learn of it at once, and both buffers' names are free. It can be started again.
     *
     * @throws handler_busy_exception if a handler is still running after 80 ms. The handler can check
     * Frame::is_cancelled(); its answer is dropped, and its thread ends when it returns
     */
    virtual void stop() = 0;

    /** Whether requests are being processed. */
    [[nodiscard]] virtual bool isRunning() const = 0;

    /**
     * Waits until the server no longer runs, and its handlers have ended: another thread has stopped it, or it has ended by itself
     * (onError() is told why). Returns whether that is so: true at once if it was not started, and false at once on a thread of the
     * server, which cannot wait for itself.
     */
    virtual bool wait(timeout_t timeout_ms) {
        static_cast<void>(timeout_ms);
        detail::unsupported("IDuplexServer::wait");
    }

    /** Waits until the server has ended, without a limit. See wait(timeout_t). */
    bool wait() { return wait(forever); }

    /** Waits until the server has ended, or the time-out has passed. Returns whether the server has ended. See wait(timeout_t). */
    bool wait(std::chrono::milliseconds timeout) { return wait(timeout_t{timeout.count()}); }

    /** Sets a function that is called when a handler throws, an answer cannot be sent, or the request buffer was created again. */
    virtual void onError(ErrorHandler handler) {  // NOLINT(performance-unnecessary-value-param): an override keeps it
        static_cast<void>(handler);
        detail::unsupported("IDuplexServer::onError");
    }

    /** Sets a function that gets the metadata of each client that sets some. */
    virtual void onInit(InitHandler handler) {  // NOLINT(performance-unnecessary-value-param): an override keeps it
        static_cast<void>(handler);
        detail::unsupported("IDuplexServer::onInit");
    }

    /**
     * Sets the number of threads of ProcessingMode::thread_pool, for the next start: 1 to 1024, where 0 counts as 1.
     *
     * @throws invalid_config_exception for more
     */
    virtual void setPoolSize(std::size_t threads) {
        static_cast<void>(threads);
        detail::unsupported("IDuplexServer::setPoolSize");
    }

    /** The channel's name; empty unless overridden. */
    [[nodiscard]] virtual std::string channel() const { return {}; }
};

/** A server whose handler reads each request and answers with its own bytes. */
class IImmutableDuplexServer : public IDuplexServer {
public:
    /**
     * Starts processing, on threads of the server, and returns at once. The response carries the request's sequence number.
     *
     * An exception of the handler reaches the client as request_failed_exception with its `what()`, for that
     * request only, and also onError().
     *
     * @throws invalid_state_exception if it runs; after a stop, those of Reader
     */
    virtual void start(RequestHandler handler, ProcessingMode mode) = 0;

    /** As start(RequestHandler, ProcessingMode), on a single thread. */
    void start(RequestHandler handler) { start(std::move(handler), ProcessingMode::single_thread); }

    /**
     * Starts processing with a handler that writes its answer in place, in the response buffer: see ResponseWriter. Otherwise like
     * start(RequestHandler, ProcessingMode). In a thread pool the answer is copied once.
     */
    virtual void startInPlace(InPlaceHandler handler, ProcessingMode mode) {  // NOLINT(performance-unnecessary-value-param)
        static_cast<void>(handler);
        static_cast<void>(mode);
        detail::unsupported("IImmutableDuplexServer::startInPlace");
    }

    /** As startInPlace(InPlaceHandler, ProcessingMode), on a single thread. */
    void startInPlace(InPlaceHandler handler) { startInPlace(std::move(handler), ProcessingMode::single_thread); }
};

/** A server whose handler changes each request in place; the changed bytes are the response. */
class IMutableDuplexServer : public IDuplexServer {
public:
    /**
     * Starts processing, on threads of the server, and returns at once: see IImmutableDuplexServer::start(). The handler changes
     * Frame::mutable_span().
     */
    virtual void start(std::function<void(Frame&)> handler, ProcessingMode mode) = 0;

    /** As start(std::function<void(Frame&)>, ProcessingMode), on a single thread. */
    void start(std::function<void(Frame&)> handler) { start(std::move(handler), ProcessingMode::single_thread); }
};

namespace detail {

using Server = Owned<zb_server, zb_server_free>;

/** Runs a function of the user for the C ABI, which no exception may reach: `failed` gets the message. */
template <typename Function, typename Failed>
void shielded(Function function, Failed failed) noexcept {
    try {
        function();
    } catch (const std::exception& error) {
        failed(error.what());
    } catch (...) {
        failed("the handler threw something that is no std::exception");
    }
}

/** Destroys the user data of a callback. */
template <typename T>
void destroy(void* user_data) {
    std::unique_ptr<T>(static_cast<T*>(user_data));
}

/** The part that both kinds of servers share. */
template <typename Interface>
class ServerBase : public Interface {
public:
    using Interface::wait;

    void stop() override { detail::call(zb_server_stop, handle()); }

    bool wait(timeout_t timeout_ms) override { return detail::call(zb_server_wait, handle(), timeout_ms) == ZB_OK; }

    [[nodiscard]] bool isRunning() const override { return zb_server_is_running(server_.get()); }

    void onError(ErrorHandler handler) override {
        const zb_error_callback tell = [](void* user_data, const zb_error* error) {
            shielded([&] { (*static_cast<ErrorHandler*>(user_data))(zerobuffer_exception(error)); }, [](const char*) {});
        };
        // The library takes ownership of the handler, and destroys it even if it refuses it.
        void* owned = std::make_unique<ErrorHandler>(std::move(handler)).release();
        detail::call(zb_server_on_error, handle(), tell, owned, zb_destroy{destroy<ErrorHandler>});
    }

    void onInit(InitHandler handler) override {
        const zb_init_callback tell = [](void* user_data, const std::uint8_t* metadata, std::size_t size) {
            shielded([&] { (*static_cast<InitHandler*>(user_data))({metadata, size}); }, [](const char*) {});
        };
        void* owned = std::make_unique<InitHandler>(std::move(handler)).release();
        detail::call(zb_server_on_init, handle(), tell, owned, zb_destroy{destroy<InitHandler>});
    }

    void setPoolSize(std::size_t threads) override { detail::call(zb_server_set_pool_size, handle(), threads); }

    [[nodiscard]] std::string channel() const override { return zb_server_channel(server_.get()); }

protected:
    template <typename Create>
    ServerBase(Create create, const std::string& channel, const BufferConfig& config) {
        check_abi();
        zb_server* server = nullptr;
        detail::call(create, channel.data(), channel.size(), static_cast<const zb_config*>(config.to_c().get()), &server);
        server_.reset(server);
    }

    [[nodiscard]] const zb_server* handle() const noexcept { return server_.get(); }

private:
    Server server_;
};

}  // namespace detail

/** The server that the library makes; see IImmutableDuplexServer. */
class ImmutableDuplexServer final : public detail::ServerBase<IImmutableDuplexServer> {
public:
    /** Creates the request buffer of the channel. Throws like Reader. */
    explicit ImmutableDuplexServer(const std::string& channel, const BufferConfig& config = BufferConfig())
        : ServerBase(zb_server_create_immutable_n, channel, config) {}

    using IImmutableDuplexServer::start;

    void start(RequestHandler handler, ProcessingMode mode) override {
        const zb_handler run = [](void* user_data, const zb_frame* raw, zb_responder* responder) {
            const auto answer = [&] {
                Frame request;
                detail::FrameAccess::borrow(request, *raw);
                static_cast<RequestHandler*>(user_data)->answer(
                    request, [responder](std::span<const std::uint8_t> bytes) {
                        detail::call(zb_responder_reply, responder, bytes.data(), bytes.size());
                    });
            };
            detail::shielded(answer, [responder](const char* words) { zb_responder_fail(responder, words); });
        };
        // The library takes ownership of the handler, and destroys it even if it refuses it.
        void* owned = std::make_unique<RequestHandler>(std::move(handler)).release();
        detail::call(zb_server_start, handle(), run, static_cast<zb_processing_mode>(mode), owned,
                     zb_destroy{detail::destroy<RequestHandler>});
    }

    using IImmutableDuplexServer::startInPlace;

    void startInPlace(InPlaceHandler handler, ProcessingMode mode) override {
        const zb_handler run = [](void* user_data, const zb_frame* raw, zb_responder* responder) {
            const auto answer = [&] {
                Frame request;
                detail::FrameAccess::borrow(request, *raw);
                ResponseWriter response(responder);
                (*static_cast<InPlaceHandler*>(user_data))(request, response);
            };
            detail::shielded(answer, [responder](const char* words) { zb_responder_fail(responder, words); });
        };
        void* owned = std::make_unique<InPlaceHandler>(std::move(handler)).release();
        detail::call(zb_server_start, handle(), run, static_cast<zb_processing_mode>(mode), owned,
                     zb_destroy{detail::destroy<InPlaceHandler>});
    }
};

/** The server that the library makes; see IMutableDuplexServer. */
class MutableDuplexServer final : public detail::ServerBase<IMutableDuplexServer> {
public:
    /** Creates the request buffer of the channel. Throws like Reader. */
    explicit MutableDuplexServer(const std::string& channel, const BufferConfig& config = BufferConfig())
        : ServerBase(zb_server_create_mutable_n, channel, config) {}

    using IMutableDuplexServer::start;

    void start(std::function<void(Frame&)> handler, ProcessingMode mode) override {
        using Handler = std::function<void(Frame&)>;
        const zb_mutable_handler run = [](void* user_data, zb_frame* raw, zb_responder* responder) {
            const auto change = [&] {
                Frame request;
                detail::FrameAccess::borrow(request, *raw);
                (*static_cast<Handler*>(user_data))(request);
            };
            detail::shielded(change, [responder](const char* words) { zb_responder_fail(responder, words); });
        };
        void* owned = std::make_unique<Handler>(std::move(handler)).release();
        detail::call(zb_server_start_mutable, handle(), run, static_cast<zb_processing_mode>(mode), owned,
                     zb_destroy{detail::destroy<Handler>});
    }
};

}  // namespace zerobuffer

#endif
