/**
 * @file
 * Answers that a handler writes in place.
 */
#ifndef ZEROBUFFER_DUPLEX_RESPONSE_WRITER_H
#define ZEROBUFFER_DUPLEX_RESPONSE_WRITER_H

#include <zerobuffer/exceptions.h>
#include <zerobuffer/frame.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

namespace zerobuffer {

/**
 * Writes the answer to one request, usually in place; see IImmutableDuplexServer::startInPlace(). Valid during the handler's call,
 * and used by one thread at a time.
 *
 * A handler that gives no answer answers with 0 bytes. One that acquires bytes, and then neither commits them nor answers
 * otherwise, fails its request.
 */
class ResponseWriter {
public:
    /** For the library: writes the answer that `responder` takes. */
    explicit ResponseWriter(zb_responder* responder) noexcept : responder_(responder) {}
    ResponseWriter(const ResponseWriter&) = delete;
    ResponseWriter& operator=(const ResponseWriter&) = delete;
    ~ResponseWriter() = default;

    /**
     * Lends bytes for the answer, to be filled and committed. Their first content is undefined. They end with the commit, with
     * discard(), or when the handler returns.
     *
     * They are bytes of the response buffer where one thread runs all handlers and no answer is deferred; this then waits for space
     * for as long as the client lives. In a thread pool they are memory of this process, which is copied once at the commit.
     *
     * @throws frame_too_large_exception if the response buffer is too small
     * @throws out_of_memory_exception
     * @throws invalid_state_exception if the request has been answered, or bytes are acquired already
     */
    [[nodiscard]] std::span<std::uint8_t> acquire(std::size_t size) {
        std::uint8_t* data = nullptr;
        detail::call(zb_responder_acquire, responder_, size, &data);
        return {data, size};
    }

    /** Answers with all bytes acquired. @throws invalid_state_exception if there are none */
    void commit() { commit(ZB_WHOLE_FRAME); }

    /**
     * Answers with the first `size` bytes acquired; 0 answers with no bytes.
     *
     * @throws invalid_state_exception if nothing is acquired
     * @throws invalid_frame_size_exception if fewer bytes are; they stay acquired
     */
    void commit(std::size_t size) { detail::call(zb_responder_commit, responder_, size); }

    /** Discards the bytes acquired, if any. The handler may acquire others, or write(). */
    void discard() noexcept { zb_responder_discard(responder_); }

    /** Answers with a copy. @throws invalid_state_exception if the request has been answered, or bytes are acquired */
    void write(const void* data, std::size_t size) {
        detail::call(zb_responder_reply, responder_, static_cast<const std::uint8_t*>(data), size);
    }

    /** Answers with a copy. See write(const void*, std::size_t). */
    void write(std::span<const std::uint8_t> bytes) { write(bytes.data(), bytes.size()); }

private:
    zb_responder* responder_;
};

/** Answers a request in place. */
using InPlaceHandler = std::function<void(const Frame& request, ResponseWriter& response)>;

}  // namespace zerobuffer

#endif
