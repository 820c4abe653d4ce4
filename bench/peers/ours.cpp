// Plays the roles of ../src/role.rs over the C++ API: streams, copied and in place, and round trips.
#include <zerobuffer/zerobuffer.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <sched.h>
#include <sys/resource.h>

namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;
using Bytes = std::vector<std::uint8_t>;

constexpr std::uint64_t end_mark = ~std::uint64_t{0};
constexpr zerobuffer::timeout_t patience_ms = 20'000;

constexpr std::uint8_t filling = 0x5a;

struct Job {
    std::string role, mode, forth, back;
    std::size_t size, payload;
    double seconds, warm_up;
    std::uint64_t count, pace;

    bool in_place() const { return mode == "in-place" || mode == "marked"; }
};

void mark(std::span<std::uint8_t> data, std::uint64_t index) {
    std::memcpy(data.data(), &index, 8);
    std::memcpy(data.data() + data.size() - 8, &index, 8);
}

bool is_marked(std::span<const std::uint8_t> data, std::uint64_t index) {
    return std::memcmp(data.data(), &index, 8) == 0 && std::memcmp(data.data() + data.size() - 8, &index, 8) == 0;
}

/** The bytes of frame `index`: SplitMix64, seeded with it. */
void fill(std::uint64_t index, Bytes& data) {
    std::uint64_t state = index;
    for (std::size_t at = 0; at < data.size(); at += 8) {
        state += 0x9e3779b97f4a7c15;
        std::uint64_t z = state;
        z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27U)) * 0x94d049bb133111eb;
        z ^= z >> 31U;
        std::memcpy(data.data() + at, &z, std::min<std::size_t>(8, data.size() - at));
    }
}

/** As `Meter` of ../src/stats.rs: the clock is looked at with every `stride`th frame. */
class Meter {
public:
    Meter(std::size_t size, double warm_up) : stride_(size <= 4096 ? 32 : 1), until_look_(stride_), warm_at_(Clock::now() + std::chrono::duration_cast<Clock::duration>(Seconds(warm_up))) {
        rates_.reserve(4096);
    }

    void frame() {
        if (--until_look_ == 0) look();
    }

    nlohmann::json finish() {
        const double wall = started_ ? Seconds(last_ - start_).count() : 0;
        const double wall_rate = wall > 0 ? static_cast<double>(frames_) / wall : 0;
        std::sort(rates_.begin(), rates_.end());
        return {{"frames", frames_},
                {"wall_rate", wall_rate},
                {"active_rate", rates_.empty() ? wall_rate : rates_[rates_.size() / 2]}};
    }

private:
    void look() {
        until_look_ = stride_;
        const auto now = Clock::now();
        if (!started_) {
            if (now < warm_at_) return;
            started_ = true;
            start_ = last_ = window_start_ = now;
            return;
        }
        frames_ += stride_;
        window_frames_ += stride_;
        last_ = now;
        const Seconds length = now - window_start_;
        if (length >= std::chrono::milliseconds(2)) {
            rates_.push_back(static_cast<double>(window_frames_) / length.count());
            window_start_ = now;
            window_frames_ = 0;
        }
    }

    std::uint64_t stride_, until_look_;
    Clock::time_point warm_at_, start_, last_, window_start_;
    bool started_ = false;
    std::uint64_t frames_ = 0, window_frames_ = 0;
    std::vector<double> rates_;
};

/** Whether the time of a run is over; small frames look at the clock now and then only, as in Meter. */
class Timer {
public:
    explicit Timer(const Job& job) : stride_(job.size <= 4096 ? 64 : 1), end_(Clock::now() + Seconds(job.seconds + job.warm_up)) {}

    bool goes_on(std::uint64_t index) const { return index % stride_ != 0 || Clock::now() < end_; }

private:
    std::uint64_t stride_;
    std::chrono::time_point<Clock, Seconds> end_;
};

/** What is not there has no bytes: neither a time-out nor the end of the stream may come. */
void check_size(std::size_t size, std::size_t wanted) {
    if (size != wanted) throw std::runtime_error("a frame of " + std::to_string(size) + " bytes");
}

/** Copies the next frame out. */
void receive(zerobuffer::Reader& reader, Bytes& target) {
    const auto frame = reader.read_frame_ref(patience_ms);
    check_size(frame.size(), target.size());
    std::memcpy(target.data(), frame.data(), frame.size());
}

[[noreturn]] void wrong(std::uint64_t index) {
    throw std::runtime_error("frame " + std::to_string(index) + " is not what was sent");
}

void produce_copies(zerobuffer::Writer& writer, const Job& job) {
    Bytes data(job.size, filling);
    if (job.mode == "verify") {
        for (std::uint64_t index = 0; index < job.count; ++index) {
            fill(index, data);
            writer.write_frame(data.data(), data.size());
        }
    } else {
        const Timer timer(job);
        for (std::uint64_t index = 0; timer.goes_on(index); ++index) {
            mark(data, index);
            writer.write_frame(data.data(), data.size());
        }
    }
    mark(data, end_mark);
    writer.write_frame(data.data(), data.size());
}

void produce_in_place(zerobuffer::Writer& writer, const Job& job) {
    const bool marked = job.mode == "marked";
    const Timer timer(job);
    std::uint64_t index = 0;
    for (; timer.goes_on(index); ++index) {
        const auto frame = writer.acquire_frame_buffer(job.size);
        if (marked) mark(frame, index);
        writer.commit_frame();
    }
    // As role.rs ends such a stream: by the mark, or by the number of frames in a frame of its own size.
    const auto last = writer.acquire_frame_buffer(marked ? job.size : sizeof index);
    if (marked) {
        mark(last, end_mark);
    } else {
        std::memcpy(last.data(), &index, sizeof index);
    }
    writer.commit_frame();
}

nlohmann::json produce(zerobuffer::Writer& writer, const Job& job) {
    job.in_place() ? produce_in_place(writer, job) : produce_copies(writer, job);
    return nlohmann::json::object();
}

nlohmann::json consume_copies(zerobuffer::Reader& reader, const Job& job) {
    Bytes data(job.size);
    Bytes expected(job.size);
    Meter meter(job.size, job.warm_up);
    const bool verify = job.mode == "verify";
    for (std::uint64_t index = 0;; ++index) {
        receive(reader, data);
        if (is_marked(data, end_mark)) {
            if (verify && index != job.count) throw std::runtime_error(std::to_string(index) + " frames came");
            return meter.finish();
        }
        if (verify) fill(index, expected);
        if (verify ? data != expected : !is_marked(data, index)) wrong(index);
        meter.frame();
    }
}

nlohmann::json consume_in_place(zerobuffer::Reader& reader, const Job& job) {
    Meter meter(job.size, job.warm_up);
    const bool marked = job.mode == "marked";
    for (std::uint64_t index = 0;; ++index) {
        const auto frame = reader.read_frame_ref(patience_ms);
        if (marked) {
            check_size(frame.size(), job.size);
            if (is_marked(frame.span(), end_mark)) return meter.finish();
            if (!is_marked(frame.span(), index)) wrong(index);
        } else if (frame.size() != job.size) {
            check_size(frame.size(), sizeof index);
            if (std::memcmp(frame.data(), &index, sizeof index) != 0) throw std::runtime_error(std::to_string(index) + " frames came");
            return meter.finish();
        }
        meter.frame();
    }
}

nlohmann::json consume(zerobuffer::Reader& reader, const Job& job) {
    return job.in_place() ? consume_in_place(reader, job) : consume_copies(reader, job);
}

nlohmann::json ping(zerobuffer::Writer& writer, zerobuffer::Reader& reader, const Job& job) {
    Bytes data(job.size, filling);
    Bytes answer(job.size);
    const auto trip = [&] {
        writer.write_frame(data.data(), data.size());
        receive(reader, answer);
        return Clock::now();
    };
    // One trip before the time starts.
    trip();
    const auto start = Clock::now();
    const auto warm_at = start + Seconds(job.warm_up);
    const auto end = warm_at + Seconds(job.seconds);
    std::vector<double> samples;
    samples.reserve(std::size_t{1} << 20U);
    for (std::uint64_t index = 0;; ++index) {
        if (job.pace != 0) std::this_thread::sleep_until(start + Seconds(static_cast<double>(index) / static_cast<double>(job.pace)));
        mark(data, index);
        const auto sent = Clock::now();
        if (sent >= end) break;
        const auto back = trip();
        if (answer != data) throw std::runtime_error("the answer to frame " + std::to_string(index) + " is another one");
        if (sent >= warm_at) samples.push_back(Seconds(back - sent).count() * 1e6);
    }
    mark(data, end_mark);
    writer.write_frame(data.data(), data.size());
    std::sort(samples.begin(), samples.end());
    const auto at = [&](double share) {
        const auto index = static_cast<std::size_t>(static_cast<double>(samples.size()) * share);
        return samples.empty() ? 0.0 : samples[std::min(index, samples.size() - 1)];
    };
    return {{"frames", samples.size()}, {"p50_us", at(0.5)},   {"p90_us", at(0.9)},
            {"p99_us", at(0.99)},       {"p999_us", at(0.999)}, {"max_us", at(1)}};
}

nlohmann::json echo(zerobuffer::Writer& writer, zerobuffer::Reader& reader, const Job& job) {
    Bytes data(job.size);
    for (;;) {
        receive(reader, data);
        if (is_marked(data, end_mark)) return nlohmann::json::object();
        writer.write_frame(data.data(), data.size());
    }
}

double cpu_seconds(rusage& usage) {
    getrusage(RUSAGE_SELF, &usage);
    const auto seconds = [](const timeval& time) { return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6; };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

template <typename Work>
nlohmann::json measured(Work work) {
    rusage usage{};
    const auto start = Clock::now();
    const double before = cpu_seconds(usage);
    nlohmann::json outcome = work();
    outcome["cpu_percent"] = (cpu_seconds(usage) - before) / Seconds(Clock::now() - start).count() * 100;
    outcome["resident_kib"] = usage.ru_maxrss;
    return outcome;
}

zerobuffer::Writer connect(const std::string& buffer) {
    return zerobuffer::Writer(buffer, zerobuffer::WriterOptions().set_connect_timeout(patience_ms));
}

zerobuffer::Reader listen(const std::string& buffer, const Job& job) {
    return zerobuffer::Reader(buffer, zerobuffer::BufferConfig().set_payload_size(job.payload));
}

void accept(zerobuffer::Reader& reader) {
    if (!reader.is_writer_connected(patience_ms)) throw std::runtime_error("no writer came");
}

nlohmann::json play(const Job& job) {
    if (job.role == "produce") {
        auto writer = connect(job.forth);
        return measured([&] { return produce(writer, job); });
    }
    const bool starts = job.role == "ping";
    auto reader = listen(starts ? job.back : job.forth, job);
    if (job.role == "consume") {
        accept(reader);
        return measured([&] { return consume(reader, job); });
    }
    if (starts) {
        auto writer = connect(job.forth);
        accept(reader);
        return measured([&] { return ping(writer, reader, job); });
    }
    if (job.role != "echo") throw std::runtime_error("no part for a " + job.role);
    accept(reader);
    auto writer = connect(job.back);
    return measured([&] { return echo(writer, reader, job); });
}

}  // namespace

int main(int argc, char** argv) {
    try {
        if (argc != 3) throw std::runtime_error("this is started by the benchmark driver");
        const auto json = nlohmann::json::parse(argv[2]);
        if (!json["cpu"].is_null()) {
            cpu_set_t cpus;
            CPU_ZERO(&cpus);
            CPU_SET(json["cpu"].get<int>(), &cpus);
            if (sched_setaffinity(0, sizeof cpus, &cpus) != 0) throw std::runtime_error("cannot keep to one processor");
        }
        const Job job{json["role"], json["mode"],    json["forth"]["name"], json["back"]["name"], json["size"], json["forth"]["payload"],
                      json["seconds"], json["warm_up"], json["count"],         json["pace"]};
        std::printf("%s\n", play(job).dump().c_str());
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
}
