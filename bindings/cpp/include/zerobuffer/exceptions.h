/**
 * @file
 * Exceptions: one class for each kind of error, all derived from zerobuffer::zerobuffer_exception.
 */
#ifndef ZEROBUFFER_EXCEPTIONS_H
#define ZEROBUFFER_EXCEPTIONS_H

#include <zerobuffer/zerobuffer_c.h>

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>

namespace zerobuffer {

/** What went wrong: the number of the C ABI (`ZB_ERROR_...`), which is never reused. */
enum class ErrorCode : zb_status {
    buffer_not_found = ZB_ERROR_BUFFER_NOT_FOUND,
    writer_already_connected = ZB_ERROR_WRITER_ALREADY_CONNECTED,
    reader_already_connected = ZB_ERROR_READER_ALREADY_CONNECTED,
    buffer_full = ZB_ERROR_BUFFER_FULL,
    reader_dead = ZB_ERROR_READER_DEAD,
    writer_dead = ZB_ERROR_WRITER_DEAD,
    writer_closed = ZB_ERROR_WRITER_CLOSED,
    frame_too_large = ZB_ERROR_FRAME_TOO_LARGE,
    invalid_frame_size = ZB_ERROR_INVALID_FRAME_SIZE,
    sequence_error = ZB_ERROR_SEQUENCE_ERROR,
    metadata_already_written = ZB_ERROR_METADATA_ALREADY_WRITTEN,
    metadata_too_large = ZB_ERROR_METADATA_TOO_LARGE,
    invalid_name = ZB_ERROR_INVALID_NAME,
    invalid_config = ZB_ERROR_INVALID_CONFIG,
    invalid_state = ZB_ERROR_INVALID_STATE,
    incompatible_protocol = ZB_ERROR_INCOMPATIBLE_PROTOCOL,
    corrupt_buffer = ZB_ERROR_CORRUPT_BUFFER,
    permission_denied = ZB_ERROR_PERMISSION_DENIED,
    out_of_memory = ZB_ERROR_OUT_OF_MEMORY,
    interrupted = ZB_ERROR_INTERRUPTED,
    closed = ZB_ERROR_CLOSED,
    request_failed = ZB_ERROR_REQUEST_FAILED,
    cancelled = ZB_ERROR_CANCELLED,
    deadline_exceeded = ZB_ERROR_DEADLINE_EXCEEDED,
    handler_busy = ZB_ERROR_HANDLER_BUSY,
    system = ZB_ERROR_SYSTEM,
    invalid_argument = ZB_ERROR_INVALID_ARGUMENT,
    internal = ZB_ERROR_INTERNAL,
};

/** An error of this library. `what()` names the buffer, the cause and the way out. */
class zerobuffer_exception : public std::runtime_error {
public:
    /** Copies an error object of the C ABI. */
    explicit zerobuffer_exception(const zb_error* error)
        : std::runtime_error(zb_error_message(error)),
          details_(std::make_shared<const Details>(Details{zb_error_buffer(error), zb_error_code(error),
                                                           zb_error_os_error(error), zb_error_sequence(error)})) {}

    /** What went wrong, as a number. */
    [[nodiscard]] ErrorCode code() const noexcept { return static_cast<ErrorCode>(details_->code); }

    /** The name of the buffer that the error is about; empty if it is about none. */
    [[nodiscard]] const std::string& buffer() const noexcept { return details_->buffer; }

    /** The operating system's number (`errno`), 0 if it was not the operating system. */
    [[nodiscard]] int os_error() const noexcept { return details_->os_error; }

    /** The sequence number of the request of a duplex channel that the error is about, 0 if it is not about a single request. */
    [[nodiscard]] std::uint64_t sequence() const noexcept { return details_->sequence; }

private:
    struct Details {
        std::string buffer;
        zb_status code;
        int os_error;
        std::uint64_t sequence;
    };

    /** Shared, because exceptions are copied, and the copy must not throw. */
    std::shared_ptr<const Details> details_;
};

/** No reader has created the buffer. */
class buffer_not_found_exception : public zerobuffer_exception {
    using zerobuffer_exception::zerobuffer_exception;
};

/** Another live writer is connected to the buffer. */
class writer_already_connected_exception : public zerobuffer_exception {
    using zerobuffer_exception::zerobuffer_exception;
};

/** Another live reader has the name. */
class reader_already_connected_exception : public zerobuffer_exception {
    using zerobuffer_exception::zerobuffer_exception;
};

/** No space became free within the write time-out. */
class buffer_full_exception : public zerobuffer_exception {
    using zerobuffer_exception::zerobuffer_exception;
};

/** The reader died, or closed the buffer: no process will read what is written. */
class reader_dead_exception : public zerobuffer_exception {
    using zerobuffer_exception::zerobuffer_exception;
};

/** The writer died; everything that it had committed has been delivered. */
class writer_dead_exception : public zerobuffer_exception {
    using zerobuffer_exception::zerobuffer_exception;
};

/** The writer closed. Reader::read_frame() returns an invalid frame with end_of_stream() instead. */
class writer_closed_exception : public zerobuffer_exception {
    using zerobuffer_exception::zerobuffer_exception;
};

/** The frame and its 16-byte header are larger than the buffer's payload. */
class frame_too_large_exception : public zerobuffer_exception {
    using zerobuffer_exception::zerobuffer_exception;
};

/** A frame of 0 bytes, or a commit of more than was acquired. */
class invalid_frame_size_exception : public zerobuffer_exception {
    using zerobuffer_exception::zerobuffer_exception;
};

/** A frame is missing: its sequence number is not the next one. */
class sequence_error_exception : public zerobuffer_exception {
public:
    /** Takes over what an error object of the C ABI says. */
    explicit sequence_error_exception(const zb_error* error) : zerobuffer_exception(error) {
        zb_error_sequence_gap(error, &expected_, &got_);
    }

    /** The sequence number that the next frame had to have. */
    [[nodiscard]] std::uint64_t expected() const noexcept { return expected_; }

    /** The sequence number that it has. */
    [[nodiscard]] std::uint64_t got() const noexcept { return got_; }

private:
    std::uint64_t expected_ = 0;
    std::uint64_t got_ = 0;
};

/** Metadata is written at most once per buffer. */
class metadata_already_written_exception : public zerobuffer_exception {
    using zerobuffer_exception::zerobuffer_exception;
};

/** The metadata and its 8-byte prefix are larger than the buffer's metadata block. */
class metadata_too_large_exception : public zerobuffer_exception {
    using zerobuffer_exception::zerobuffer_exception;
};

/** The buffer's name cannot be used. */
class invalid_name_exception : public zerobuffer_exception {
    using zerobuffer_exception::zerobuffer_exception;
};

/** The configuration cannot be used. */
class invalid_config_exception : public zerobuffer_exception {
    using zerobuffer_exception::zerobuffer_exception;
};

/** The call does not fit the state of the object, or another thread is using it. */
class invalid_state_exception : public zerobuffer_exception {
    using zerobuffer_exception::zerobuffer_exception;
};

/** The buffer speaks another version of the protocol. */
class incompatible_protocol_exception : public zerobuffer_exception {
    using zerobuffer_exception::zerobuffer_exception;
};

/** The shared memory holds values that cannot be true. */
class corrupt_buffer_exception : public zerobuffer_exception {
    using zerobuffer_exception::zerobuffer_exception;
};

/** The operating system refused access. */
class permission_denied_exception : public zerobuffer_exception {
    using zerobuffer_exception::zerobuffer_exception;
};

/** The shared-memory file system, or a limit on it, has no room left. */
class out_of_memory_exception : public zerobuffer_exception {
    using zerobuffer_exception::zerobuffer_exception;
};

/** An interrupt ended the call. */
class interrupted_exception : public zerobuffer_exception {
    using zerobuffer_exception::zerobuffer_exception;
};

/** The object has been closed. */
class closed_exception : public zerobuffer_exception {
    using zerobuffer_exception::zerobuffer_exception;
};

/** The handler of a duplex server failed for this request only; `what()` has the handler's message. */
class request_failed_exception : public zerobuffer_exception {
    using zerobuffer_exception::zerobuffer_exception;
};

/** The request was cancelled. */
class cancelled_exception : public zerobuffer_exception {
    using zerobuffer_exception::zerobuffer_exception;
};

/** No response came in time, or the server had not started in time. */
class deadline_exceeded_exception : public zerobuffer_exception {
    using zerobuffer_exception::zerobuffer_exception;
};

/** A duplex server was stopped while a handler is running; it ends when the handler returns. */
class handler_busy_exception : public zerobuffer_exception {
    using zerobuffer_exception::zerobuffer_exception;
};

/** Anything else that the operating system refused. */
class system_exception : public zerobuffer_exception {
    using zerobuffer_exception::zerobuffer_exception;
};

/** An argument is invalid. */
class invalid_argument_exception : public zerobuffer_exception {
    using zerobuffer_exception::zerobuffer_exception;
};

/** The library itself failed: please report it. */
class internal_exception : public zerobuffer_exception {
    using zerobuffer_exception::zerobuffer_exception;
};

namespace detail {

/** An error object of the C ABI, freed when this is destroyed. */
class Error {
public:
    Error() = default;
    Error(const Error&) = delete;
    Error& operator=(const Error&) = delete;
    ~Error() {
        // There is almost never an error.
        if (error_ != nullptr) zb_error_free(error_);
    }

    /** The place in which a function of the C ABI puts its error. */
    zb_error** out() noexcept { return &error_; }

    /** Throws if the call failed; otherwise returns its status. */
    zb_status check(zb_status status) const {
        if (status < 0) [[unlikely]]
            raise(error_);
        return status;
    }

    /** Throws the exception for an error. */
    [[noreturn]] static void raise(const zb_error* error) {
        switch (zb_error_code(error)) {
            case ZB_ERROR_BUFFER_NOT_FOUND: throw buffer_not_found_exception(error);
            case ZB_ERROR_WRITER_ALREADY_CONNECTED: throw writer_already_connected_exception(error);
            case ZB_ERROR_READER_ALREADY_CONNECTED: throw reader_already_connected_exception(error);
            case ZB_ERROR_BUFFER_FULL: throw buffer_full_exception(error);
            case ZB_ERROR_READER_DEAD: throw reader_dead_exception(error);
            case ZB_ERROR_WRITER_DEAD: throw writer_dead_exception(error);
            case ZB_ERROR_WRITER_CLOSED: throw writer_closed_exception(error);
            case ZB_ERROR_FRAME_TOO_LARGE: throw frame_too_large_exception(error);
            case ZB_ERROR_INVALID_FRAME_SIZE: throw invalid_frame_size_exception(error);
            case ZB_ERROR_SEQUENCE_ERROR: throw sequence_error_exception(error);
            case ZB_ERROR_METADATA_ALREADY_WRITTEN: throw metadata_already_written_exception(error);
            case ZB_ERROR_METADATA_TOO_LARGE: throw metadata_too_large_exception(error);
            case ZB_ERROR_INVALID_NAME: throw invalid_name_exception(error);
            case ZB_ERROR_INVALID_CONFIG: throw invalid_config_exception(error);
            case ZB_ERROR_INVALID_STATE: throw invalid_state_exception(error);
            case ZB_ERROR_INCOMPATIBLE_PROTOCOL: throw incompatible_protocol_exception(error);
            case ZB_ERROR_CORRUPT_BUFFER: throw corrupt_buffer_exception(error);
            case ZB_ERROR_PERMISSION_DENIED: throw permission_denied_exception(error);
            case ZB_ERROR_OUT_OF_MEMORY: throw out_of_memory_exception(error);
            case ZB_ERROR_INTERRUPTED: throw interrupted_exception(error);
            case ZB_ERROR_CLOSED: throw closed_exception(error);
            case ZB_ERROR_REQUEST_FAILED: throw request_failed_exception(error);
            case ZB_ERROR_CANCELLED: throw cancelled_exception(error);
            case ZB_ERROR_DEADLINE_EXCEEDED: throw deadline_exceeded_exception(error);
            case ZB_ERROR_HANDLER_BUSY: throw handler_busy_exception(error);
            case ZB_ERROR_SYSTEM: throw system_exception(error);
            case ZB_ERROR_INVALID_ARGUMENT: throw invalid_argument_exception(error);
            case ZB_ERROR_INTERNAL: throw internal_exception(error);
            default: throw zerobuffer_exception(error);
        }
    }

private:
    zb_error* error_ = nullptr;
};

/** The body of a function of an interface that a class of the user has not overridden. */
[[noreturn]] inline void unsupported(const char* function) {
    throw std::logic_error(std::string(function) + " is not implemented by this class");
}

/** Calls a function of the C ABI whose last parameter is the error; throws if it fails. */
template <typename Function, typename... Arguments>
zb_status call(Function function, Arguments... arguments) {
    Error error;
    return error.check(function(arguments..., error.out()));
}

/** A handle of the C ABI, freed when this is destroyed. */
template <typename Handle, void (*free_handle)(Handle*)>
struct Free {
    void operator()(Handle* handle) const noexcept { free_handle(handle); }
};

/** Owns a handle of the C ABI. */
template <typename Handle, void (*free_handle)(Handle*)>
using Owned = std::unique_ptr<Handle, Free<Handle, free_handle>>;

}  // namespace detail
}  // namespace zerobuffer

#endif
