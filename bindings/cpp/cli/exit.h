// Exit codes, one table per command, and failures with their exit code.
#ifndef ZEROBUFFER_CLI_EXIT_H
#define ZEROBUFFER_CLI_EXIT_H

#include <zerobuffer/exceptions.h>

#include <cerrno>
#include <exception>
#include <string>
#include <system_error>
#include <utility>

namespace cli {
namespace exits {

inline constexpr int ok = 0;
/** A bad command line, for every command but the relay. */
inline constexpr int bad_arguments = 3;
/** The command did its work, but its results did not reach standard output. */
inline constexpr int unprinted = 5;
/** An orderly end on Ctrl-C or SIGTERM. */
inline constexpr int interrupted = 130;

namespace writer {
inline constexpr int cannot_connect = 1;
inline constexpr int write_error = 2;
}  // namespace writer

namespace reader {
inline constexpr int cannot_create = 1;
inline constexpr int read_error = 2;
inline constexpr int verification_failed = 4;
}  // namespace reader

namespace relay {
inline constexpr int input_error = 1;
inline constexpr int output_error = 2;
inline constexpr int relay_error = 3;
inline constexpr int bad_arguments = 4;
}  // namespace relay

}  // namespace exits

/** Why a command ends early. */
class Failure : public std::exception {
public:
    Failure(int code, std::string message) : code_(code), message_(std::move(message)) {}

    /** Ctrl-C or SIGTERM. */
    static Failure interrupted() { return {exits::interrupted, "interrupted"}; }

    /** From an error of the library; `code`, unless the command line was bad. */
    static Failure of(const zerobuffer::zerobuffer_exception& error, int code, int bad_arguments) {
        switch (error.code()) {
            case zerobuffer::ErrorCode::interrupted: return interrupted();
            case zerobuffer::ErrorCode::invalid_name:
            case zerobuffer::ErrorCode::invalid_config: return {bad_arguments, error.what()};
            default: return {code, error.what()};
        }
    }

    [[nodiscard]] int code() const noexcept { return code_; }
    [[nodiscard]] const char* what() const noexcept override { return message_.c_str(); }

private:
    int code_;
    std::string message_;
};

/** Does `work`, whose errors of the library become failures with these codes. */
template <typename Work>
auto failing_with(int code, int bad_arguments, Work&& work) {
    try {
        return std::forward<Work>(work)();
    } catch (const zerobuffer::zerobuffer_exception& error) {
        throw Failure::of(error, code, bad_arguments);
    }
}

/** What the operating system says of an error number. */
inline std::string os_error(int number) {
    return std::generic_category().message(number) + " (os error " + std::to_string(number) + ")";
}

/** From an error number of the system: `code` if the system lacked a resource; otherwise the command line is bad. */
inline Failure not_opened(int number, int code, int bad_arguments, const std::string& what) {
    const bool shortage = number == EMFILE || number == ENFILE || number == ENOMEM || number == ENOSPC || number == EDQUOT ||
                          number == EAGAIN || number == EIO;
    return {shortage ? code : bad_arguments, what + ": " + os_error(number)};
}

}  // namespace cli

#endif
