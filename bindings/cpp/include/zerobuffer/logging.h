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

/**
 * Sets what gets the library's messages up to `level`, in place of an earlier one; an empty function for nothing.
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
    const zb_log_callback deliver = [](void* user_data, zb_log_level number, const char* target, const char* message) {
        try {
            (*static_cast<LogHandler*>(user_data))(static_cast<LogLevel>(number), target, message);
        } catch (...) {  // NOLINT(bugprone-empty-catch): nobody is left to be told
        }
    };
    const zb_destroy destroy = [](void* user_data) { std::unique_ptr<LogHandler>(static_cast<LogHandler*>(user_data)); };
    // The library takes it over, and destroys it even if it refuses it.
    auto* owned = std::make_unique<LogHandler>(std::move(handler)).release();
    detail::call(zb_set_logger, deliver, static_cast<zb_log_level>(level), static_cast<void*>(owned), destroy);
}

}  // namespace zerobuffer

#endif
