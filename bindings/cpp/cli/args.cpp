#include "args.h"

#include "exit.h"
#include "output.h"

#include <zerobuffer/version.h>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <functional>
#include <limits>
#include <map>
#include <sstream>
#include <string_view>

namespace cli {
namespace {

constexpr const char* timeout_help = " 0 does not wait, -1 waits without limit. [default: 5000]";
constexpr const char* units_help = "; K, M and G (1024-based) are understood.";

[[noreturn]] void refuse(const std::string& why) { throw CLI::ValidationError(why); }

/** A whole number, and nothing behind it. */
template <typename Number>
Number number(std::string_view text, Number least, Number most) {
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value < least || value > most) {
        refuse("invalid value '" + std::string(text) + "': a number between " + std::to_string(least) + " and " +
               std::to_string(most));
    }
    return value;
}

/** A number of bytes, with or without a 1024-based unit. */
std::size_t bytes(const std::string& text, std::size_t least) {
    std::size_t digits = text.size();
    while (digits > 0 && std::isalpha(static_cast<unsigned char>(text[digits - 1])) != 0) --digits;
    std::string unit = text.substr(digits);
    for (char& letter : unit) letter = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
    static const std::map<std::string, unsigned> shifts = {
        {"", 0},    {"b", 0},    {"k", 10},  {"kb", 10},  {"kib", 10}, {"m", 20},
        {"mb", 20}, {"mib", 20}, {"g", 30}, {"gb", 30}, {"gib", 30},
    };
    const auto shift = shifts.find(unit);
    if (shift == shifts.end()) refuse("unknown unit '" + text.substr(digits) + "'; K, M and G are known");
    return number(std::string_view(text).substr(0, digits), least, std::numeric_limits<std::size_t>::max() >> shift->second)
           << shift->second;
}

/** Adds an option whose value `take` reads. */
CLI::Option* option(CLI::App& command, const std::string& names, const std::string& value, const std::string& help,
                    const std::function<void(const std::string&)>& take) {
    return command.add_option_function<std::string>(names, take, help)->type_name(value);
}

template <typename Target>
CLI::Option* count(CLI::App& command, const std::string& names, Target& target, std::uint64_t least, const std::string& value,
                   const std::string& help) {
    return option(command, names, value, help, [&target, least](const std::string& text) {
        target = number<std::uint64_t>(text, least, std::numeric_limits<std::uint64_t>::max());
    });
}

template <typename Target>
CLI::Option* size(CLI::App& command, const std::string& names, Target& target, std::size_t least, const std::string& help) {
    return option(command, names, "BYTES", help,
                  [&target, least](const std::string& text) { target = bytes(text, least); });
}

CLI::Option* text(CLI::App& command, const std::string& names, std::optional<std::string>& target, const std::string& value,
                  const std::string& help) {
    return option(command, names, value, help, [&target](const std::string& given) { target = given; });
}

void timeout(CLI::App& command, std::int64_t& target, const std::string& help) {
    option(command, "--timeout-ms", "MS", help + timeout_help, [&target](const std::string& given) {
        target = number<std::int64_t>(given, -1, std::numeric_limits<std::int64_t>::max());
    });
}

void flag(CLI::App& command, const std::string& names, bool& target, const std::string& help) {
    command.add_flag(names, target, help)->multi_option_policy(CLI::MultiOptionPolicy::Throw);
}

/** One of a few words. */
template <typename Value, typename Target>
CLI::Option* choice(CLI::App& command, const std::string& names, Target& target, const std::map<std::string, Value>& values,
                    const std::string& value, const std::string& help) {
    std::string known;
    for (const auto& [word, _] : values) known += (known.empty() ? "" : ", ") + word;
    return option(command, names, value, help + " [" + known + "]", [&target, values, known](const std::string& given) {
        const auto found = values.find(given);
        if (found == values.end()) refuse("invalid value '" + given + "': one of " + known);
        target = found->second;
    });
}

const std::map<std::string, Pattern> patterns = {
    {"sequential", Pattern::sequential}, {"random", Pattern::random}, {"zero", Pattern::zero}, {"ones", Pattern::ones}};

/** Help in lines of 80 columns: what is longer goes on below, in the same column. */
std::string wrapped(const std::string& help) {
    constexpr std::size_t width = 80;
    std::string result;
    std::istringstream lines(help);
    for (std::string line; std::getline(lines, line);) {
        const std::size_t start = std::min(line.find_first_not_of(' '), line.size());
        const std::size_t gap = line.find("  ", start);
        const std::size_t column = gap == std::string::npos ? start : line.find_first_not_of(' ', gap);
        while (line.size() > width) {
            const std::size_t cut = line.rfind(' ', width);
            if (cut == std::string::npos || cut <= column) break;
            result += line.substr(0, cut) + '\n';
            line = std::string(column, ' ') + line.substr(cut + 1);
        }
        result += line + '\n';
    }
    return result;
}

void common(CLI::App& command, ReportArgs& report) {
    flag(command, "--json-output", report.json_output, "Print the summary as one JSON object, and nothing else.");
    flag(command, "-v,--verbose", report.verbose, "Log what happens, on standard error.");
}

/** Of a reader's permissions: octal digits. */
std::uint32_t permissions(const std::string& text) {
    std::uint32_t value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 8);
    if (error != std::errc() || end != text.data() + text.size() || value > 07777) {
        refuse("invalid value '" + text + "': octal permissions, as 0600 or 660");
    }
    return value;
}

void ring(CLI::App& command, RingArgs& args, const std::string& what) {
    size(command, "--buffer-size", args.buffer_size, 1, "Bytes of " + what + " to create" + units_help + " [default: 256M]");
    size(command, "--metadata-size", args.metadata_size, 0,
         "Bytes of the metadata block to create, of which 8 hold its length. [default: 4096]");
    option(command, "--mode", "OCTAL", "Permissions of the buffer, as 0660 for a group. [default: 0600]",
           [&args](const std::string& given) { args.mode = permissions(given); });
    flag(command, "--preallocate", args.preallocate, "Reserve all memory of the buffer at the start.");
    flag(command, "--huge-pages", args.huge_pages,
         "Make all memory of the buffer at the start, in huge pages as far as the kernel has some.");
    option(command, "--numa-node", "NODE", "NUMA node whose memory the buffer shall use, as far as there is room; -1 = where the reader runs.",
           [&args](const std::string& given) { args.numa_node = number<std::int32_t>(given, -1, 1023); });
    flag(command, "--classic", args.classic,
         "Keep the ring classic, so that 1.x writers can use it. Otherwise a writer of this version makes it an extended one, which is "
         "faster, but which later 1.x writers cannot use.");
}

CLI::App& add_writer(CLI::App& app, WriterArgs& args) {
    CLI::App& command = *app.add_subcommand("writer", "Write frames into a buffer that a reader has created, or will create soon.");
    command.footer("Exit codes: 0 all frames written, 1 cannot connect, 2 write error, 3 bad arguments, 5 results not printed, 130 ended by Ctrl-C or SIGTERM.");
    command.add_option("NAME", args.name, "Name of the buffer.")->required();
    count(command, "-n,--frames", args.frames, 0, "COUNT", "Frames to write; 0 for no limit. [default: 1000; with --input, no limit]");
    size(command, "-s,--size", args.size, 1,
         std::string("Bytes per frame. With --input, the last frame may be shorter") + units_help + " [default: 1024]");
    auto* metadata = text(command, "-m,--metadata", args.metadata, "TEXT", "Metadata to set before the first frame.");
    text(command, "--metadata-file", args.metadata_file, "FILE", "File with the metadata to set before the first frame.")
        ->excludes(metadata);
    auto* pattern = choice<Pattern>(command, "--pattern", args.pattern, patterns, "PATTERN", "What the frames hold. [default: sequential]");
    text(command, "--input", args.input, "FILE|-", "Real data instead of a pattern: a file (or - for standard input), cut into frames.")
        ->excludes(pattern);
    count(command, "--delay-ms", args.delay_ms, 0, "MS", "Pause after each batch, in milliseconds. [default: 0]");
    count(command, "--batch-size", args.batch_size, 1, "COUNT", "Frames between two pauses. [default: 1]");
    timeout(command, args.timeout_ms, "How long to wait for the reader, and then for space for each frame;");
    common(command, args.report);
    return command;
}

CLI::App& add_reader(CLI::App& app, ReaderArgs& args) {
    CLI::App& command = *app.add_subcommand("reader", "Create a buffer, read frames from it, and remove it at the end.");
    command.footer(
        "Exit codes: 0 ok, 1 cannot create the buffer, 2 read error or time-out, 3 bad arguments, 4 verification failed, "
        "5 results not printed, 130 ended by Ctrl-C or SIGTERM.");
    command.add_option("NAME", args.name, "Name of the buffer.")->required();
    count(command, "-n,--frames", args.frames, 0, "COUNT", "Frames to read; 0 for no limit. [default: 0]");
    size(command, "-s,--size", args.size, 0,
         "Bytes expected per frame; 0 accepts any. Checked only if this option or --verify is given. [default: 1024]");
    timeout(command, args.timeout_ms, "How long to wait for each frame, the first included;");
    std::map<std::string, std::optional<Pattern>> verify(patterns.begin(), patterns.end());
    verify.emplace("none", std::nullopt);
    choice<std::optional<Pattern>>(command, "--verify", args.verify, verify, "PATTERN",
                                   "Compare every byte with the writer's pattern of this name. [default: none]");
    flag(command, "--checksum", args.checksum, "XXH3-64 checksums of each frame and of the whole stream.");
    count(command, "--batch-size", args.batch_size, 1, "COUNT", "Frames held before they are released together. [default: 1]");
    ring(command, args.ring, "the ring");
    text(command, "--output", args.output, "FILE|-",
         "Write the frames' bytes to a file, or to standard output (-); the summary then goes to standard error.");
    flag(command, "--latest", args.latest,
         "Read the newest frame each time, and pass over those that came before it. The summary counts them.");
    flag(command, "--keep", args.keep, "When a writer closes or dies, wait for the next one without limit.");
    common(command, args.report);
    return command;
}

CLI::App& add_relay(CLI::App& app, RelayArgs& args) {
    CLI::App& command = *app.add_subcommand("relay", "Pass frames on from one buffer to another.");
    command.footer(
        "Exit codes: 0 ok, 1 input error (creating, reading, time-out), 2 output error (connecting, writing), 3 relay error "
        "(metadata, or frames that no reader fetched from a created output), 4 bad arguments, 5 results not printed, 130 ended by Ctrl-C or SIGTERM.");
    command.add_option("IN", args.input, "Name of the buffer to read from; the relay creates it.")->required();
    command.add_option("OUT", args.output, "Name of the buffer to write to.")->required();
    count(command, "-n,--frames", args.frames, 0, "COUNT", "Frames to relay; 0 for no limit. [default: 0]");
    flag(command, "--create-output", args.create_output,
         "Create OUT as well and hold frames in it until a reader takes it over. At the end the relay waits for that reader up to "
         "the time-out, and reports the frames lost if none comes.");
    ring(command, args.ring, "each ring");
    timeout(command, args.timeout_ms, "How long to wait for each frame, for the reader of OUT, and for space;");
    flag(command, "--copy", args.copy,
         "Copy every frame. Otherwise frames of 32 KiB and more are shared where the reader of OUT allows it: it looks at them in IN, "
         "and the relay holds them there until it has released them.");
    choice<Transform>(command, "--transform", args.transform,
                      {{"none", Transform::none}, {"reverse", Transform::reverse}, {"xor", Transform::xor_bytes}}, "TRANSFORM",
                      "What to do to the bytes of each frame. [default: none]");
    option(command, "--xor-key", "BYTE", "Key of the transform xor, applied to every byte. [default: 255]",
           [&args](const std::string& given) { args.xor_key = static_cast<std::uint8_t>(number(given, 0U, 255U)); });
    count(command, "--log-interval", args.log_interval, 0, "COUNT", "Frames between two progress lines; 0 for none. [default: 100]");
    common(command, args.report);
    return command;
}

}  // namespace

std::variant<Command, int> parse(int argc, char** argv) {
    CLI::App app("Frames between two processes through shared memory: one writer, one reader, zero copies, no broker.",
                 "zerobuffer-cpp");
    app.set_version_flag("-V,--version", std::string("zerobuffer-cpp ") + zerobuffer::version());
    app.require_subcommand(1);
    WriterArgs writer;
    ReaderArgs reader;
    RelayArgs relay;
    const CLI::App& writer_command = add_writer(app, writer);
    const CLI::App& reader_command = add_reader(app, reader);
    add_relay(app, relay);

    const bool is_relay = argc > 1 && std::string_view(argv[1]) == "relay";
    const int bad_arguments = is_relay ? exits::relay::bad_arguments : exits::bad_arguments;
    if (argc < 2) {
        std::istringstream help(wrapped(app.help()));
        for (std::string line; std::getline(help, line);) tell(line);
        return bad_arguments;
    }
    try {
        app.parse(argc, argv);
    } catch (const CLI::Success& success) {
        // Help or the version.
        std::ostringstream text;
        const int code = app.exit(success, text, text);
        say_text(wrapped(text.str()));
        return code;
    } catch (const CLI::ParseError& error) {
        tell(std::string("error: ") + error.what());
        tell("");
        tell("For more information, try '--help'.");
        return bad_arguments;
    }
    if (writer_command.parsed()) return Command(writer);
    if (reader_command.parsed()) return Command(reader);
    return Command(relay);
}

}  // namespace cli
