// A stream of frames: `stream reader NAME` in one terminal, `stream writer NAME` in another.
#include <zerobuffer/zerobuffer.h>

#include <cstdio>
#include <stdexcept>
#include <string>
#include <string_view>

// Creates the buffer and prints each frame, until the writer closes.
static void read(const std::string& name) {
    zerobuffer::Reader reader(name, zerobuffer::BufferConfig());
    if (!reader.is_writer_connected(30000)) throw std::runtime_error("no writer came");
    while (true) {
        zerobuffer::Frame frame = reader.read_frame();
        if (!frame.valid()) {
            std::puts(frame.end_of_stream() ? "end of stream" : "no frame in time");
            return;
        }
        std::printf("%llu: %.*s\n", static_cast<unsigned long long>(frame.sequence()), static_cast<int>(frame.size()),
                    reinterpret_cast<const char*>(frame.data()));
    }
}

// Connects to the buffer and writes five frames.
static void write(const std::string& name) {
    zerobuffer::Writer writer(name, zerobuffer::WriterOptions().set_connect_timeout(10000));
    for (int number = 1; number <= 5; number++) {
        const std::string text = "frame " + std::to_string(number) + " of 5";
        writer.write_frame(text.data(), text.size());
    }
}

int main(int count, char** arguments) try {
    const std::string_view role = count == 3 ? arguments[1] : "";
    if (role == "reader") return read(arguments[2]), 0;
    if (role == "writer") return write(arguments[2]), 0;
    std::fputs("usage: stream reader|writer NAME\n", stderr);
    return 2;
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());  // buffer, cause, way out
    return 1;
}
