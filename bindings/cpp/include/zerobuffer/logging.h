/**
 * @file
 * The library's log, for a function of yours.
 */
#ifndef ZEROBUFFER_LOGGING_H
#define ZEROBUFFER_LOGGING_H

#include <zerobuffer/exceptions.h>
#include <zerobuffer/version.h>

#include <functional>
#include <memory>
#include <string_view>
#include <utility>

namespace zerobuffer {

/** How much a message matters, and how much is wanted. */
enum class LogLevel : zb_log_level {
    off = ZB_LOG_OFF,
    error = ZB_LOG_ERROR,
    warn = ZB_LOG_WARN,
    info = ZB_LOG_INFO,
    debug = ZB_LOG_DEBUG,
    trace = ZB_LOG_TRACE,
};

/** Gets one message. Called on any thread, on more than one at once; what it throws is dropped. */
using LogHandler = std::function<void(LogLevel level, std::string_view target, std::string_view message)>;

namespace detail {

/** Hands a message to the handler behind the user data. */
inline void deliver(void* user_data, zb_log_level number, const char* target, const char* message) noexcept {
    try {
        (*static_cast<LogHandler*>(user_data))(static_cast<LogLevel>(number), target, message);
    } catch (...) {  // NOLINT(bugprone-empty-catch): nobody is left to be told
    }
}

inline void destroy_log_handler(void* user_data) { std::unique_ptr<LogHandler>(static_cast<LogHandler*>(user_data)); }

}  // namespace detail

/**
 * A handler that gets the library's messages for as long as it lives, beside any others. When it has been destroyed no thread is in
 * the handler: the code behind it may be unloaded.
 */
class Logger {
public:
    /**
     * Adds the handler, for messages up to `level`.
     *
     * @throws invalid_state_exception if the program has a logger of Rust's `log` crate, which gets the messages then
     */
    explicit Logger(LogHandler handler, LogLevel level = LogLevel::info) {
        detail::check_abi();
        if (!handler) throw std::invalid_argument("zerobuffer::Logger: the handler is empty");
        zb_logger* logger = nullptr;
        // The library takes the handler over, and destroys it even if it refuses it.
        void* owned = std::make_unique<LogHandler>(std::move(handler)).release();
        detail::call(zb_logger_add, zb_log_callback{detail::deliver}, static_cast<zb_log_level>(level), owned,
                     zb_destroy{detail::destroy_log_handler}, &logger);
        logger_.reset(logger);
    }

private:
    detail::Owned<zb_logger, zb_logger_remove> logger_;
};

/**
 * Sets what gets the library's messages up to `level`, in place of an earlier one; an empty function for nothing. For programs:
 * a library makes a Logger, which leaves others alone.
 *
 * The library never prints; it logs clean-up and repair only, never on the way of a frame.
 *
 * @throws invalid_state_exception if the program has a logger of Rust's `log` crate, which gets the messages then
 */
inline void set_log_handler(LogHandler handler, LogLevel level = LogLevel::info) {
    detail::check_abi();
    if (!handler) {
        detail::call(zb_set_logger, zb_log_callback{nullptr}, zb_log_level{ZB_LOG_OFF}, static_cast<void*>(nullptr),
                     zb_destroy{nullptr});
        return;
    }
    // The library takes it over, and destroys it even if it refuses it.
    void* owned = std::make_unique<LogHandler>(std::move(handler)).release();
    detail::call(zb_set_logger, zb_log_callback{detail::deliver}, static_cast<zb_log_level>(level), owned,
                 zb_destroy{detail::destroy_log_handler});
}

}  // namespace zerobuffer

#endif
