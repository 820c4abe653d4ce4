// `zerobuffer-cpp reader`: frames out of a buffer, verified, summed up, or written to a file.
#include "checks.h"
#include "commands.h"
#include "output.h"
#include "progress.h"
#include "sink.h"
#include "wait.h"

#include <zerobuffer/inspect.h>

#include <vector>

namespace cli {
namespace {

std::string about(const std::string& buffer) { return "buffer `" + buffer + "`: "; }

[[noreturn]] void time_out(const ReaderArgs& args) {
    throw Failure(exits::reader::read_error, about(args.name) + "no frame within " + std::to_string(args.timeout_ms) +
                                                 " ms; start the writer (zerobuffer writer " + args.name +
                                                 "), or wait longer with --timeout-ms (-1: without limit)");
}

/** The result of a writer's death: a failure, unless the reader is to wait for the next writer. */
void writer_died(const ReaderArgs& args, const Tally& tally, const zerobuffer::writer_dead_exception& error) {
    if (args.keep) {
        complain(std::string(error.what()) + "; waiting for the next writer");
        return;
    }
    throw Failure(exits::reader::read_error, std::string(error.what()) + " (" + std::to_string(tally.frames) +
                                                 " frames); start both again, or wait for the next with --keep");
}

/** The result of a writer's orderly end: whether to end too. */
bool writer_closed(const ReaderArgs& args, const Tally& tally) {
    inform(about(args.name) + "the writer closed; " + frames(tally.frames) + " so far");
    if (args.keep) return false;
    if (args.frames == 0) return true;
    throw Failure(exits::reader::read_error, about(args.name) + "the writer closed after " + std::to_string(tally.frames) +
                                                 " of " + std::to_string(args.frames) +
                                                 " frames; ask for fewer, or wait for the next writer with --keep");
}

void stream(const ReaderArgs& args, zerobuffer::Reader& reader, std::optional<Sink>& sink, const Stop& stop, Tally& tally,
            Checks& checks) {
    Progress progress("reading", args.frames, args.report);
    Arrivals arrivals(args.name);
    std::vector<std::shared_ptr<const zerobuffer::Frame>> held;
    while (args.frames == 0 || tally.frames < args.frames) {
        stop.check();
        zerobuffer::Frame next;
        try {
            const auto idle = [&] {
                // The writer may be waiting for the space that is held here.
                held.clear();
                progress.wait(tally, arrivals.awaited());
            };
            next = args.latest ? latest_frame(reader, args.timeout_ms, idle) : next_frame(reader, args.timeout_ms, idle);
        } catch (const zerobuffer::writer_dead_exception& error) {
            arrivals.end();
            writer_died(args, tally, error);
            continue;
        }
        if (next.end_of_stream()) {
            arrivals.end();
            if (writer_closed(args, tally)) return;
            continue;
        }
        if (!next.valid()) {
            if (!args.keep || reader.is_writer_connected()) time_out(args);
            if (args.timeout_ms == 0) stop.sleep(std::chrono::milliseconds(10));
            continue;
        }
        tally.start();
        arrivals.frame();
        const auto frame = std::make_shared<const zerobuffer::Frame>(std::move(next));
        checks.check(*frame);
        if (sink && !sink->put(frame, stop)) {
            stop.check();
            // The output failed; its thread's result says why.
            return;
        }
        tally.count(frame->size());
        held.push_back(frame);
        if (held.size() >= args.batch_size) held.clear();
        progress.show(tally);
    }
}

void read(const ReaderArgs& args, Report& report, Tally& tally, Checks& checks) {
    const Stop stop = Stop::install(exits::reader::cannot_create);
    show_log(args.report.verbose);
    auto reader = failing_with(exits::reader::cannot_create, exits::bad_arguments, [&args] {
        return zerobuffer::Reader(args.name, config(args.ring));
    });
    stop.watch(reader.interrupt_handle());
    tell_of_buffer(args.name);
    std::optional<Sink> sink;
    if (args.output) sink.emplace(*args.output, stop);

    const auto guarded = [](auto&& work) {
        return failing_with(exits::reader::read_error, exits::bad_arguments, std::forward<decltype(work)>(work));
    };
    std::optional<Failure> failure;
    try {
        guarded([&] { stream(args, reader, sink, stop, tally, checks); });
    } catch (const Failure& early) {
        failure = early;
    }
    try {
        report.metadata_size = reader.get_metadata().size();
    } catch (const zerobuffer::zerobuffer_exception&) {
        // Then there is none to tell of.
    }
    if (args.latest) report.frames_skipped = reader.frames_skipped();
    // The buffer is removed before the last bytes are written, so that no writer waits for a stalled pipe.
    std::optional<Failure> unclosed;
    try {
        guarded([&reader] { reader.close(); });
    } catch (const Failure& late) {
        unclosed = late;
    }
    if (sink) sink->finish(stop);
    if (failure) throw Failure(*failure);
    if (unclosed) throw Failure(*unclosed);
}

}  // namespace

int run(const ReaderArgs& args) {
    Report report{.operation = "read", .buffer_name = args.name};
    Tally tally;
    Checks checks(args);
    const int code = reported(report, exits::reader::read_error, [&] {
        read(args, report, tally, checks);
        if (checks.wrong() > 0) {
            throw Failure(exits::reader::verification_failed,
                          "buffer `" + args.name + "`: " + std::to_string(checks.wrong()) + " of " +
                              std::to_string(tally.frames) +
                              " frames are not what was expected: writer and reader need the same pattern and --size");
        }
    });
    report.frame_size = tally.largest;
    report.verification_errors = checks.wrong();
    report.checksums = checks.checksums();
    report.finish(tally, args.report, args.data_on_stdout());
    return code;
}

}  // namespace cli
