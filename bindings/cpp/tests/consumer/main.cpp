// A first program: it sends one frame and reads it in place.
#include <zerobuffer/zerobuffer.h>

#include <cstdio>
#include <string>
#include <string_view>

#include <unistd.h>

int main() {
    const std::string name = "zbtest-consumer-" + std::to_string(getpid());
    const std::string_view text = "through shared memory";

    zerobuffer::Reader reader(name, zerobuffer::BufferConfig(4096, 1024 * 1024));
    zerobuffer::Writer writer(name);
    writer.write_frame(text.data(), text.size());
    const zerobuffer::Frame frame = reader.read_frame();
    const std::string_view came(reinterpret_cast<const char*>(frame.data()), frame.size());
    if (came != text || frame.sequence() != 1) {
        std::fprintf(stderr, "another frame came\n");
        return 1;
    }
    std::printf("zerobuffer %s: ok\n", zerobuffer::version());
    return 0;
}
