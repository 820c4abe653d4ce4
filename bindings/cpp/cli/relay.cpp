// `zerobuffer-cpp relay`: frames from one buffer to another, without a copy where it can, else straight from ring to ring.
#include "commands.h"
#include "connect.h"
#include "output.h"
#include "progress.h"
#include "wait.h"

#include <zerobuffer/inspect.h>
#include <zerobuffer/kept_buffer.h>

#include <algorithm>
#include <functional>
#include <memory>

namespace cli {
namespace {

/** Pause between two looks at whether a created output has found its reader. */
constexpr std::chrono::milliseconds look(5);

template <typename Work>
auto input(Work&& work) {
    return failing_with(exits::relay::input_error, exits::relay::bad_arguments, std::forward<Work>(work));
}

template <typename Work>
auto output(Work&& work) {
    return failing_with(exits::relay::output_error, exits::relay::bad_arguments, std::forward<Work>(work));
}

const char* name_of(Transform transform) {
    switch (transform) {
        case Transform::reverse: return "reverse";
        case Transform::xor_bytes: return "xor";
        default: return "none";
    }
}

class Relay {
public:
    Relay(const RelayArgs& args, Report& report, Tally& tally) : args_(args), report_(report), tally_(tally) {}

    void run() {
        if (args_.input == args_.output) {
            throw Failure(exits::relay::bad_arguments, "IN and OUT are the same buffer: a relay needs two");
        }
        const Stop stop = Stop::install(exits::relay::relay_error);
        show_log(args_.report.verbose);
        auto reader = input([this] { return zerobuffer::Reader(args_.input, ring_config(args_.ring)); });
        stop.watch(reader.interrupt_handle());
        tell_of_buffer(args_.input);
        std::optional<zerobuffer::KeptBuffer> kept;
        if (args_.create_output) kept.emplace(create_output());
        Progress progress("relaying", args_.frames, args_.report, args_.log_interval);
        auto writer = std::make_unique<zerobuffer::Writer>(connect(stop, args_.output, args_.timeout_ms, exits::relay::output_error,
                                                                   exits::relay::bad_arguments, progress, tally_));

        // The first failure is reported, but everything is closed.
        std::optional<Failure> failure;
        const auto attempt = [&failure](const std::function<void()>& work) {
            try {
                work();
            } catch (const Failure& late) {
                if (!failure) failure = late;
            }
        };
        attempt([&] {
            stream(reader, *writer, stop, progress);
            // It may have come after the last frame.
            pass_metadata(reader, *writer);
        });
        const bool cut = failure && failure->code() != exits::interrupted;
        std::optional<Failure> unclosed;
        try {
            input([&reader] { reader.close(); });
            if (cut) {
                // The stream is incomplete, and its reader is to know. A writer that is never closed ends with the process, as
                // the writer of a process that dies, and its reader is told so.
                inform("buffer `" + args_.output + "`: left as by a writer that died, as the stream is incomplete");
                [[maybe_unused]] zerobuffer::Writer* const abandoned = writer.release();
            } else {
                output([&writer] { writer->close(); });
            }
        } catch (const Failure& late) {
            unclosed = late;
        }
        if (kept) attempt([&] { hand_over(*kept, stop); });
        if (failure) throw Failure(*failure);
        if (unclosed) throw Failure(*unclosed);
    }

private:
    [[nodiscard]] zerobuffer::BufferConfig ring_config(const RingArgs& ring) const {
        return config(ring).set_allow_payload_sharing(!args_.copy);
    }

    zerobuffer::KeptBuffer create_output() {
        // The metadata block is as large as the input's, so that the input's metadata fits.
        RingArgs ring = args_.ring;
        ring.metadata_size = input([this] { return zerobuffer::inspect::snapshot(args_.input).metadata_size; });
        return output([&] { return zerobuffer::KeptBuffer(args_.output, ring_config(ring)); });
    }

    void stream(zerobuffer::Reader& reader, zerobuffer::Writer& writer, const Stop& stop, Progress& progress) {
        Arrivals arrivals(args_.input);
        while (args_.frames == 0 || tally_.frames < args_.frames) {
            stop.check();
            auto frame = input([&] {
                return next_frame(reader, args_.timeout_ms, [&] {
                    pass_metadata(reader, writer);
                    progress.wait(tally_, arrivals.awaited());
                });
            });
            if (frame.end_of_stream()) {
                inform("buffer `" + args_.input + "`: the writer closed; " + frames(tally_.frames) + " so far");
                if (args_.frames == 0) return;
                throw Failure(exits::relay::input_error, "buffer `" + args_.input + "`: the writer closed after " +
                                                             std::to_string(tally_.frames) + " of " +
                                                             std::to_string(args_.frames) + " frames; ask for fewer");
            }
            if (!frame.valid()) time_out();
            tally_.start();
            arrivals.frame();
            // The metadata comes before the frame that it may describe.
            pass_metadata(reader, writer);
            const std::size_t size = frame.size();
            const bool shared = output([&] { return pass(std::move(frame), writer); });
            tally_.count(size);
            *(shared ? report_.frames_shared : report_.frames_copied) += 1;
            progress.show(tally_);
        }
    }

    /** Transforms a frame where it is, and passes it on; returns whether it was shared. */
    bool pass(zerobuffer::Frame frame, zerobuffer::Writer& writer) const {
        if (args_.transform != Transform::none) {
            if (frame.is_shared()) {
                // The bytes are another relay's: a copy is transformed.
                const std::span<std::uint8_t> target = writer.acquire_frame_buffer(frame.size());
                std::ranges::copy(frame.span(), target.begin());
                change(target);
                writer.commit_frame();
                return false;
            }
            change(frame.make_mut());
        }
        return writer.forward(std::move(frame));
    }

    void change(std::span<std::uint8_t> bytes) const {
        switch (args_.transform) {
            case Transform::none: break;
            case Transform::reverse: std::ranges::reverse(bytes); break;
            case Transform::xor_bytes:
                for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(byte ^ args_.xor_key);
                break;
        }
    }

    /** Passes on the metadata, if it has come and is not passed on yet. */
    void pass_metadata(const zerobuffer::Reader& reader, zerobuffer::Writer& writer) {
        if (metadata_passed_) return;
        const auto metadata = input([&reader] { return reader.get_metadata(); });
        if (metadata.empty()) return;
        failing_with(exits::relay::relay_error, exits::relay::bad_arguments, [&] { writer.set_metadata(metadata); });
        metadata_passed_ = true;
        inform("buffer `" + args_.output + "`: " + std::to_string(metadata.size()) + " bytes of metadata are passed on");
        report_.metadata_relayed = true;
        report_.metadata_size = metadata.size();
    }

    /** Waits for a reader to take over the output that the relay created, then gives the output up. */
    void hand_over(zerobuffer::KeptBuffer& kept, const Stop& stop) {
        const Deadline deadline(args_.timeout_ms);
        bool waited = !stop.requested();
        const auto adopted_yet = [&kept] { return output([&kept] { return kept.is_adopted(); }); };
        while (tally_.frames > 0 && waited && !adopted_yet() && !deadline.is_over()) waited = stop.sleep(look);
        const bool adopted = output([&kept] { return kept.close(); });
        report_.frames_lost = adopted ? 0 : tally_.frames;
        if (adopted || tally_.frames == 0) {
            if (!waited) throw Failure::interrupted();
            return;
        }
        const std::string message = "buffer `" + args_.output + "`: no reader took it over, so " +
                                    std::to_string(tally_.frames) +
                                    " frames are lost; start the reader earlier, or wait longer for it with --timeout-ms";
        if (waited) throw Failure(exits::relay::relay_error, message);
        // The exit code says "interrupted"; the loss is reported all the same.
        complain(message);
        report_.errors.push_back(message);
        throw Failure::interrupted();
    }

    [[noreturn]] void time_out() const {
        throw Failure(exits::relay::input_error, "buffer `" + args_.input + "`: no frame within " +
                                                     std::to_string(args_.timeout_ms) +
                                                     " ms; start its writer (zerobuffer writer " + args_.input +
                                                     "), or wait longer with --timeout-ms (-1: without limit)");
    }

    const RelayArgs& args_;
    Report& report_;
    Tally& tally_;
    bool metadata_passed_ = false;
};

}  // namespace

int run(const RelayArgs& args) {
    Report report{.operation = "relay",
                  .input_buffer = args.input,
                  .output_buffer = args.output,
                  .transform = name_of(args.transform),
                  .metadata_relayed = false,
                  .frames_shared = 0,
                  .frames_copied = 0};
    Tally tally;
    const int code = reported(report, exits::relay::relay_error, [&] { Relay(args, report, tally).run(); });
    report.frame_size = tally.largest;
    report.finish(tally, args.report, false);
    return code;
}

}  // namespace cli
