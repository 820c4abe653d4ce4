// Pictures without a copy: `in_place viewer NAME` in one terminal, `in_place camera NAME` in another.
#include <zerobuffer/zerobuffer.h>

#include <cstdio>
#include <numeric>
#include <stdexcept>
#include <string>
#include <string_view>

constexpr std::size_t width = 640, height = 480;

// Measures each picture where it lies in shared memory.
static void view(const std::string& name) {
    zerobuffer::Reader reader(name, zerobuffer::BufferConfig());
    if (!reader.is_writer_connected(30000)) throw std::runtime_error("no writer came");
    while (true) {
        zerobuffer::Frame picture = reader.read_frame();
        if (!picture.valid()) return;
        const auto sum = std::accumulate(picture.begin(), picture.end(), 0ULL);
        std::printf("picture %llu: mean brightness %llu\n", static_cast<unsigned long long>(picture.sequence()),
                    sum / picture.size());
        // The space goes back to the camera here, with `picture`.
    }
}

// Draws three pictures directly into shared memory.
static void film(const std::string& name) {
    zerobuffer::Writer writer(name, zerobuffer::WriterOptions().set_connect_timeout(10000));
    for (std::size_t number = 0; number < 3; number++) {
        std::span<std::uint8_t> picture = writer.acquire_frame_buffer(width * height);
        for (std::size_t y = 0; y < height; y++)
            for (std::size_t x = 0; x < width; x++)
                picture[y * width + x] = static_cast<std::uint8_t>((x + y) / 8 + 20 * number);
        writer.commit_frame();
    }
}

int main(int count, char** arguments) try {
    const std::string_view role = count == 3 ? arguments[1] : "";
    if (role == "viewer") return view(arguments[2]), 0;
    if (role == "camera") return film(arguments[2]), 0;
    std::fputs("usage: in_place viewer|camera NAME\n", stderr);
    return 2;
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
