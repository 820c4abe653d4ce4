// A stage of a pipeline: `relay IN OUT` reads frames from one buffer and writes them, inverted, to the next.
// Before it, something that reads OUT (`stream reader OUT`); after it, something that writes IN (`stream writer IN`).
#include <zerobuffer/zerobuffer.h>

#include <algorithm>
#include <cstdio>
#include <stdexcept>

int main(int count, char** arguments) try {
    if (count != 3) {
        std::fputs("usage: relay IN OUT\n", stderr);
        return 2;
    }
    zerobuffer::Reader reader(arguments[1], zerobuffer::BufferConfig());
    zerobuffer::Writer writer(arguments[2], zerobuffer::WriterOptions().set_connect_timeout(10000));
    if (!reader.is_writer_connected(30000)) throw std::runtime_error("no writer came");
    while (true) {
        zerobuffer::Frame frame = reader.read_frame();
        if (!frame.valid()) return 0;
        // The bytes go from the one buffer to the other once, and are changed on the way.
        std::span<std::uint8_t> target = writer.acquire_frame_buffer(frame.size());
        std::transform(frame.begin(), frame.end(), target.begin(),
                       [](std::uint8_t byte) { return static_cast<std::uint8_t>(255 - byte); });
        writer.commit_frame();
    }
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
