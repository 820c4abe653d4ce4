// `zerobuffer-cpp writer`: a pattern, or real data, into a buffer.
#include "commands.h"
#include "connect.h"
#include "source.h"

#include <cerrno>
#include <fstream>
#include <iterator>

namespace cli {
namespace {

/** Frames by default, of a pattern. */
constexpr std::uint64_t default_frames = 1000;

std::string metadata_of(const std::string& path) {
    errno = 0;
    std::ifstream file(path, std::ios::binary);
    std::string bytes{std::istreambuf_iterator<char>(file), {}};
    if (!file.is_open() || file.bad()) {
        throw Failure(exits::bad_arguments, "--metadata-file " + path + ": " + os_error(errno));
    }
    return bytes;
}

/** 0 for no limit. */
void stream(const WriterArgs& args, zerobuffer::Writer& writer, std::optional<Source>& source, std::uint64_t limit,
            const Stop& stop, Tally& tally) {
    Progress progress("writing", limit, args.report);
    while (limit == 0 || tally.frames < limit) {
        stop.check();
        std::size_t size = args.size;
        if (source) {
            if (!source->has_more(writer, stop, size)) return;
            size = source->fill(writer, stop, writer.acquire_frame_buffer(size));
        } else {
            fill(args.pattern, tally.frames, writer.acquire_frame_buffer(size));
        }
        writer.commit_frame(size);
        tally.count(size);
        progress.show(tally);
        if (args.delay_ms > 0 && tally.frames % args.batch_size == 0 && tally.frames != limit) {
            stop.sleep(std::chrono::milliseconds(args.delay_ms));
        }
    }
}

void write(const WriterArgs& args, Report& report, Tally& tally) {
    std::optional<std::string> metadata = args.metadata;
    if (args.metadata_file) metadata = metadata_of(*args.metadata_file);
    std::optional<Source> source;
    if (args.input) source.emplace(*args.input);
    const std::uint64_t limit = args.frames.value_or(source ? 0 : default_frames);

    const Stop stop = Stop::install();
    show_log(args.report.verbose);
    auto writer = connect(stop, args.name, args.timeout_ms, exits::writer::cannot_connect, exits::bad_arguments);
    failing_with(exits::writer::write_error, exits::bad_arguments, [&] {
        if (metadata) {
            writer.set_metadata(*metadata);
            report.metadata_size = metadata->size();
        }
        tally.start();
        stream(args, writer, source, limit, stop, tally);
        writer.close();
    });
}

}  // namespace

int run(const WriterArgs& args) {
    Report report{.operation = "write", .buffer_name = args.name, .frame_size = args.size};
    Tally tally;
    const int code = reported(report, exits::writer::write_error, [&] { write(args, report, tally); });
    report.finish(tally, args.report, false);
    return code;
}

}  // namespace cli
