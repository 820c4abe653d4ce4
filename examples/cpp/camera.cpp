// The first of three programs in three languages: `camera OUT PICTURES RATE` writes pictures, RATE of them a second, or as many as it can
// if RATE is 0. After it come examples/python/enhance.py and examples/csharp/display, which are started before it.
#include <zerobuffer/zerobuffer.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

// A picture in YUV 4:2:0. The time at which it was made stands at both ends.
constexpr std::size_t width = 1920, height = 1080, picture_size = width * height * 3 / 2;

using Clock = std::chrono::steady_clock;

// What the camera looks at, while it turns to the right by a pixel per picture.
static std::vector<std::uint8_t> scene(std::size_t pictures) {
    std::vector<std::uint8_t> pixels(picture_size + pictures);
    for (std::size_t at = 0; at < pixels.size(); at++) pixels[at] = static_cast<std::uint8_t>(at % width + at / width);
    return pixels;
}

static void film(const std::string& name, std::size_t pictures, int rate) {
    const std::vector<std::uint8_t> pixels = scene(pictures);
    zerobuffer::Writer camera_out(name, zerobuffer::WriterOptions().set_connect_timeout(30000));
    Clock::time_point due = Clock::now();
    for (std::size_t number = 0; number < pictures; number++) {
        if (rate > 0) std::this_thread::sleep_until(due += std::chrono::nanoseconds(1'000'000'000 / rate));
        const std::int64_t made = std::chrono::nanoseconds(Clock::now().time_since_epoch()).count();
        std::span<std::uint8_t> picture = camera_out.acquire_frame_buffer(picture_size);
        std::memcpy(picture.data(), &pixels[number], picture_size);
        std::memcpy(picture.data(), &made, sizeof made);
        std::memcpy(picture.data() + picture_size - sizeof made, &made, sizeof made);
        camera_out.commit_frame();
    }
}

int main(int count, char** arguments) try {
    if (count != 4) {
        std::fputs("usage: camera OUT PICTURES RATE\n", stderr);
        return 2;
    }
    film(arguments[1], std::stoul(arguments[2]), std::stoi(arguments[3]));
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
