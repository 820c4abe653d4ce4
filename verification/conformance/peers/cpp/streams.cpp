#include "streams.h"

#include <zerobuffer/inspect.h>

#include <unistd.h>

#include <algorithm>

using namespace zerobuffer;

namespace {

StepError missing(const char* what) { return {"BadStep", std::string("there is no ") + what}; }

std::string word(inspect::Presence presence) {
    switch (presence) {
        case inspect::Presence::absent: return "Absent";
        case inspect::Presence::alive: return "Alive";
        case inspect::Presence::dead: return "Dead";
        case inspect::Presence::closed: return "Closed";
    }
    return "?";
}

std::string word(inspect::Health health) {
    switch (health) {
        case inspect::Health::healthy: return "Healthy";
        case inspect::Health::degraded: return "Degraded";
        case inspect::Health::critical: return "Critical";
    }
    return "?";
}

Json inspected(const std::string& name) {
    const auto shown = inspect::snapshot(name);
    return {{"payload_size", shown.payload_size},
            {"metadata_size", shown.metadata_size},
            {"reader", word(shown.reader.presence)},
            {"writer", word(shown.writer.presence)},
            {"health", word(shown.health)}};
}

Json defaults(const std::string& name) {
    const Reader reader(name);
    const Writer writer(name);
    const auto shown = inspect::snapshot(name);
    return {{"payload_size", shown.payload_size},
            {"metadata_size", shown.metadata_size},
            {"mode", shown.mode},
            {"write_timeout_ms", writer.write_timeout()}};
}

void become_user(unsigned id) {
    if (setgid(id) != 0 || setuid(id) != 0) throw StepError("Unsupported", "only root can become somebody else");
}

}  // namespace

Reader& Streams::reader() {
    if (!reader_) throw missing("reader");
    return *reader_;
}

Writer& Streams::writer() {
    if (!writer_) throw missing("writer");
    return *writer_;
}

Frame& Streams::held(const Json& step) {
    const std::size_t which = step.value("which", std::size_t{0});
    if (which >= held_.size() || !held_[which].valid()) throw missing("frame that is held");
    return held_[which];
}

void Streams::reset() {
    held_.clear();
    close("both");
}

void Streams::interrupt(const std::string& of) {
    const std::lock_guard lock(mutex_);
    if (of == "writer" && writer_) writer_->interrupt();
    if (of == "reader" && reader_) reader_->interrupt();
}

void Streams::close(const std::string& of) {
    const std::lock_guard lock(mutex_);
    if (of != "reader" && writer_) {
        writer_->close();
        writer_.reset();
    }
    if (of != "writer" && reader_) {
        reader_->close();
        reader_.reset();
    }
}

namespace {

/** The end of the stream is an error in answers, as in Rust. */
Frame no_end(Frame frame) {
    if (frame.end_of_stream()) throw StepError("WriterClosed", "the end of the stream");
    return frame;
}

}  // namespace

/** A frame, or an invalid one in vain. */
Frame Streams::next(const Json& step) { return no_end(reader().read_frame(timeout_of(step))); }

Json Streams::read(const Json& step, bool hold) {
    Frame frame = next(step);
    if (!frame.valid()) return none();
    Json answer = described(frame.span(), frame.sequence());
    answer["shared"] = frame.is_shared();
    if (hold) {
        held_.push_back(std::move(frame));
    } else {
        reader().release_frame(frame);
    }
    return answer;
}

void Streams::receive(const Json& step) {
    std::uint64_t number = step.value("sequence", std::uint64_t{1});
    for (const auto& [seed, size] : stream(step)) {
        const Frame frame = next(step);
        if (!frame.valid()) throw StepError("WrongFrame", "frame " + std::to_string(number) + " did not come");
        const Buffer expected = content(seed, size);
        if (frame.sequence() != number || !std::ranges::equal(frame.span(), expected)) {
            throw StepError("WrongFrame", "frame " + std::to_string(number) + ": got " + std::to_string(frame.sequence()) +
                                              " with " + std::to_string(frame.size()) + " bytes");
        }
        ++number;
    }
}

void Streams::send(const Json& step) {
    for (const auto& [seed, size] : stream(step)) {
        const Buffer bytes = content(seed, size);
        if (seed % 2 == 0) {
            writer().write_frame(bytes);
        } else {
            std::ranges::copy(bytes, writer().acquire_frame_buffer(size).begin());
            writer().commit_frame();
        }
    }
}

void Streams::relay(const Json& step) {
    const std::uint64_t count = step.value("count", std::uint64_t{1});
    for (std::uint64_t number = 0; number < count; ++number) {
        const Frame frame = next(step);
        if (!frame.valid()) throw StepError("WrongFrame", "frame " + std::to_string(number) + " did not come");
        writer().write_frame(frame.span());
    }
}

Json Streams::forward(const Json& step) {
    const std::uint64_t count = step.value("count", std::uint64_t{1});
    std::uint64_t shared = 0;
    for (std::uint64_t number = 0; number < count; ++number) {
        Frame frame = next(step);
        if (!frame.valid()) throw StepError("WrongFrame", "frame " + std::to_string(number) + " did not come");
        if (step.value("invert", false)) {
            for (std::uint8_t& byte : frame.make_mut()) byte = static_cast<std::uint8_t>(~byte);
        }
        if (writer().forward(std::move(frame))) ++shared;
    }
    return {{"shared", shared}, {"copied", count - shared}};
}

Json Streams::connected(const Json& step) {
    if (reader_ && step.contains("timeout_ms")) return {{"connected", reader().is_writer_connected(timeout_of(step))}};
    if (reader_) return {{"connected", reader().is_writer_connected()}};
    return {{"connected", writer().is_reader_connected()}};
}

Json Streams::counters() {
    if (reader_) return {{"frames", reader_->frames_read()}, {"bytes", reader_->bytes_read()}};
    return {{"frames", writer().frames_written()}, {"bytes", writer().bytes_written()}};
}

bool Streams::play(const std::string& verb, const Json& step, Json& answer) {
    if (verb == "create") {
        auto made = std::make_shared<Reader>(step.value("name", ""), config_of(step));
        const std::lock_guard lock(mutex_);
        reader_ = std::move(made);
    } else if (verb == "connect") {
        WriterOptions options;
        options.set_request_payload_sharing(step.value("sharing", false));
        if (step.contains("connect_timeout_ms")) options.set_connect_timeout(timeout_of(step, "connect_timeout_ms"));
        auto made = std::make_shared<Writer>(step.value("name", ""), options);
        const std::lock_guard lock(mutex_);
        writer_ = std::move(made);
    } else if (verb == "read" || verb == "hold") {
        answer = read(step, verb == "hold");
    } else if (verb == "latest") {
        const Frame frame = no_end(reader().read_latest_frame(timeout_of(step)));
        if (frame.valid()) {
            answer = described(frame.span(), frame.sequence());
            answer["skipped"] = reader().frames_skipped();
        } else {
            answer = none();
        }
    } else if (verb == "check") {
        answer = described(held(step).span(), held(step).sequence());
    } else if (verb == "release") {
        held(step) = Frame();
    } else if (verb == "receive") {
        receive(step);
    } else if (verb == "drain") {
        while (next(step).valid()) {
        }
        answer = none();
    } else if (verb == "metadata") {
        const Buffer metadata = reader().get_metadata();
        answer = metadata.empty() ? none() : described(metadata, 0);
    } else if (verb == "write") {
        writer().write_frame(bytes_of(step));
        answer = {{"written", true}};
    } else if (verb == "try_write") {
        answer = {{"written", writer().try_write_frame(bytes_of(step)).has_value()}};
    } else if (verb == "acquire") {
        const Buffer bytes = bytes_of(step);
        std::ranges::copy(bytes, writer().acquire_frame_buffer(bytes.size()).begin());
    } else if (verb == "commit") {
        step.contains("len") ? writer().commit_frame(step["len"].get<std::size_t>()) : writer().commit_frame();
    } else if (verb == "discard") {
        writer().discard_frame();
    } else if (verb == "send") {
        send(step);
    } else if (verb == "set_metadata") {
        writer().set_metadata(bytes_of(step));
    } else if (verb == "write_timeout") {
        writer().set_write_timeout(timeout_of(step, "ms"));
    } else if (verb == "relay") {
        relay(step);
    } else if (verb == "forward") {
        answer = forward(step);
    } else if (verb == "connected") {
        answer = connected(step);
    } else if (verb == "counters") {
        answer = counters();
    } else if (verb == "inspect") {
        answer = inspected(step.value("name", ""));
    } else if (verb == "become_user") {
        become_user(step.value("uid", 65534U));
    } else if (verb == "defaults") {
        answer = defaults(step.value("name", ""));
    } else if (verb == "close") {
        close(step.value("of", "both"));
    } else {
        return false;
    }
    return true;
}
