// Request and response: `duplex server NAME` in one terminal, `duplex client NAME` in another.
#include <zerobuffer/zerobuffer.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>

// Answers each request with its text in capitals, until Enter is pressed.
static void serve(const std::string& name) {
    auto& factory = zerobuffer::IDuplexChannelFactory::getInstance();
    auto server = factory.createImmutableServer(name, zerobuffer::BufferConfig());
    server->onError([](const zerobuffer::zerobuffer_exception& error) { std::fprintf(stderr, "%s\n", error.what()); });
    // What a handler throws reaches its client as request_failed_exception; the server goes on.
    server->start([](const zerobuffer::Frame& request) {
        std::string text(request.begin(), request.end());
        std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::toupper(c); });
        return text;
    });
    std::fprintf(stderr, "serving %s; press Enter to stop\n", name.c_str());
    std::getchar();
    server->stop();
}

// Asks three times and prints the answers.
static void ask(const std::string& name) {
    auto& factory = zerobuffer::IDuplexChannelFactory::getInstance();
    auto client = factory.createClient(name, zerobuffer::ClientOptions().set_connect_timeout(10000));
    for (std::string_view text : {"hello", "shared", "memory"}) {
        zerobuffer::Frame response = client->call(reinterpret_cast<const std::uint8_t*>(text.data()), text.size(), 5000);
        std::printf("%s -> %.*s\n", text.data(), static_cast<int>(response.size()),
                    reinterpret_cast<const char*>(response.data()));
    }
}

int main(int count, char** arguments) try {
    const std::string_view role = count == 3 ? arguments[1] : "";
    if (role == "server") return serve(arguments[2]), 0;
    if (role == "client") return ask(arguments[2]), 0;
    std::fputs("usage: duplex server|client NAME\n", stderr);
    return 2;
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
