// What commands print: results on standard output, lines for people on standard error.
#ifndef ZEROBUFFER_CLI_OUTPUT_H
#define ZEROBUFFER_CLI_OUTPUT_H

#include <string>
#include <string_view>

namespace cli {

/**
 * Puts a placeholder that cannot be used in the place of each standard stream that is closed. Nothing that the process opens
 * later can become a standard stream by accident. Called before anything else.
 */
void occupy_standard_streams();

/** Prints an error on standard error. */
void complain(const std::string& message);

/** Logs what happens on standard error, if the user asks for it (`--verbose`). */
void inform(const std::string& message);

/** Makes inform() print. */
void set_verbose(bool verbose);

/** Whether inform() prints. */
[[nodiscard]] bool is_verbose();

/**
 * Prints a line on standard error. Nothing depends on it: a line that cannot be printed is dropped, and a stream that is not read
 * is waited for only once and only for a moment.
 */
void tell(std::string_view line);

/** Prints a line on standard output. Waits until it is read; a failure decides the exit code (see exit_code()). */
void say(std::string_view line);

/** Prints text of several lines on standard output as it is. */
void say_text(std::string_view text);

/** Prints a JSON value on standard output, or on standard error. */
void say_json(const std::string& json, bool to_stderr);

/** Shows a line on a terminal that the next line replaces. */
void show_progress(const std::string& line);

/** Removes the line that show_progress() has left. */
void clear_progress();

/** Whether standard error is a terminal on which a line can be replaced. */
[[nodiscard]] bool has_terminal();

/** The exit code of a command that ends with `code`, and whose results may not have reached standard output. */
[[nodiscard]] int exit_code(int code);

/** Text in which control characters, and characters that change the direction of text, are shown as escapes. */
[[nodiscard]] std::string shown(std::string_view text);

}  // namespace cli

#endif
