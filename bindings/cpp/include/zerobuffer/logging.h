/**
 * @file The library's log, for your own functions.
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

/** The level of a message, or the level up to which messages are wanted. */
enum class LogLevel : zb_log_level {
    off = ZB_LOG_OFF,
    error = ZB_LOG_ERROR,
    warn = ZB_LOG_WARN,
    info = ZB_LOG_INFO,
    debug = ZB_LOG_DEBUG,
    trace = ZB_LOG_TRACE,
};

/**
 * Gets one message. It may be called on several threads at once, in the middle of a call. It may close the handle of that call, and
 * add or remove loggers, and must call nothing else of the library. Its exceptions are dropped.
 */
using LogHandler = std::function<void(LogLevel level, std::string_view target, std::string_view message)>;

namespace detail {

/** Passes a message to the handler behind the user data. */
inline void deliver(void* user_data, zb_log_level number, const char* target, const char* message) noexcept {
    try {
        (*static_cast<LogHandler*>(user_data))(static_cast<LogLevel>(number), target, message);
    } catch (...) {  // NOLINT(bugprone-empty-catch): an exception of a logger has no place to go
    }
}

inline void destroy_log_handler(void* user_data) { std::unique_ptr<LogHandler>(static_cast<LogHandler*>(user_data)); }

}  // namespace detail

/**
 * A handler that gets the library's messages for as long as it lives, like every other Logger. After its
 * destruction no thread is in the handler, so its code may be unloaded.
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
        // The library takes ownership of the handler, and destroys it even if it refuses it.
        void* owned = std::make_unique<LogHandler>(std::move(handler)).release();
        detail::call(zb_logger_add, zb_log_callback{detail::deliver}, static_cast<zb_log_level>(level), owned,
                     zb_destroy{detail::destroy_log_handler}, &logger);
        logger_.reset(logger);
    }

private:
    detail::Owned<zb_logger, zb_logger_remove> logger_;
};

/**
 * Sets the handler of the library's messages up to `level`, in place of an earlier one; an empty function for
 * none. Use it in programs. A library makes a Logger instead, which leaves other handlers alone.
 *
 * The library never prints. It logs clean-up and repair only, never on the path of a frame.
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
    // The library takes ownership of the handler, and destroys it even if it refuses it.
    void* owned = std::make_unique<LogHandler>(std::move(handler)).release();
    detail::call(zb_set_logger, zb_log_callback{detail::deliver}, static_cast<zb_log_level>(level), owned,
                 zb_destroy{detail::destroy_log_handler});
}

}  // namespace zerobuffer

#endif
