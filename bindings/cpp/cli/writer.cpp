// `zerobuffer-cpp writer`: a pattern, or real data, into a buffer.
#include "commands.h"
#include "connect.h"
#include "open.h"
#include "output.h"
#include "progress.h"
#include "source.h"

#include <zerobuffer/inspect.h>

namespace cli {
namespace {

/** Frames by default, of a pattern. */
constexpr std::uint64_t default_frames = 1000;

std::string about(const std::string& buffer) { return "buffer `" + buffer + "`: "; }

/** 0 for no limit. */
void stream(const WriterArgs& args, zerobuffer::Writer& writer, std::optional<Source>& source, std::uint64_t limit,
            const Stop& stop, Tally& tally, Progress& progress) {
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
    std::optional<Source> source;
    if (args.input) source.emplace(*args.input);
    // A file that cannot be read is an error before any wait.
    std::optional<int> metadata_file;
    if (args.metadata_file) metadata_file = open_input("--metadata-file", *args.metadata_file, exits::writer::write_error);
    const std::uint64_t limit = args.frames.value_or(source ? 0 : default_frames);

    const Stop stop = Stop::install(exits::writer::cannot_connect);
    show_log(args.report.verbose);
    Progress progress("writing", limit, args.report);
    auto writer = connect(stop, args.name, args.timeout_ms, exits::writer::cannot_connect, exits::bad_arguments, progress, tally);
    failing_with(exits::writer::write_error, exits::bad_arguments, [&] {
        std::optional<std::string> metadata = args.metadata;
        if (metadata_file) {
            // One byte more than fits shows that the file is too large.
            const std::size_t most = zerobuffer::inspect::snapshot(args.name).metadata_size + 1;
            metadata = read_all(*metadata_file, "--metadata-file", *args.metadata_file, most, exits::writer::write_error, stop);
        }
        if (metadata) {
            writer.set_metadata(*metadata);
            report.metadata_size = metadata->size();
            inform(about(args.name) + std::to_string(metadata->size()) + " bytes of metadata are set");
        }
        tally.start();
        stream(args, writer, source, limit, stop, tally, progress);
        writer.close();
        inform(about(args.name) + "closed after " + frames(tally.frames));
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
