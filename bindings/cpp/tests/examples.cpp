// Every C++ example of the requested API, as written but for the errata of docs/API.md. Each comment says which one it is; what
// stands around an example makes a test of it.
#include <doctest/doctest.h>
#include <zerobuffer/zerobuffer.h>

#include <algorithm>
#include <thread>

#include "support.h"

// The examples of the duplex channel are written without the namespace.
using namespace zerobuffer;

namespace {

int captured = 0;

/** A camera: frames of growing size. */
std::vector<uint8_t> capture_frame() { return std::vector<uint8_t>(static_cast<std::size_t>(1000 + captured++ % 100), 7); }

std::vector<uint8_t> processImage(const uint8_t* data, size_t size) {
    std::vector<uint8_t> processed(data, data + size);
    std::reverse(processed.begin(), processed.end());
    return processed;
}

std::vector<uint8_t> loadImage() { return {1, 2, 3, 4, 5}; }

std::vector<uint8_t> saved;

void saveImage(const Frame& response) { saved.assign(response.begin(), response.end()); }

}  // namespace

// "Basic API Usage": the snippet shows a reader and a writer, which are two programs (errata).
TEST_CASE("basic usage") {
    const support::Name unique("example");
    const std::string& name = unique;
    std::size_t read = 0;
    std::atomic<bool> created = false;
    std::thread reading([&] {
        // Reader (creates buffer)
        zerobuffer::BufferConfig config(4096, 256*1024*1024); // 4KB metadata, 256MB payload
        zerobuffer::Reader reader(name, config);
        created = true;

        // Wait for writer
        if (!reader.is_writer_connected(30000)) { // 30 second timeout
            // Handle timeout
        }

        // Read frames
        while (true) {
            zerobuffer::Frame frame = reader.read_frame();
            if (!frame.valid()) break;

            // Process frame.data(), frame.size()
            read += frame.size();
            reader.release_frame(frame);
        }
    });
    while (!created) std::this_thread::yield();
    {
        // Writer (connects to buffer)
        zerobuffer::Writer writer(name);

        // Write frames
        std::vector<uint8_t> data(1024);
        writer.write_frame(data.data(), data.size());
    }
    reading.join();
    CHECK(read == 1024);
}

// "Scenario 1", the C++ producer; and "Constructor Modifications", the constructors as they are.
TEST_CASE("a simple producer") {
    const support::Name unique("video-stream");
    const std::string& name = unique;
    zerobuffer::Reader reader(name, zerobuffer::BufferConfig(4096, 16 * 1024 * 1024));
    {
        zerobuffer::Writer writer(name);
        for (int i = 0; i < 1000; i++) {
            std::vector<uint8_t> frame = capture_frame();
            writer.write_frame(frame.data(), frame.size());
        }
    }
    std::size_t count = 0;
    while (true) {
        zerobuffer::Frame frame = reader.read_frame();
        if (!frame.valid()) break;
        count += frame.size() == 1000 + count % 100 ? 1 : 0;
    }
    CHECK(count == 1000);
}

// "Exceptions and Error Handling": the names, and that some operations return invalid values.
TEST_CASE("the exceptions have the names asked for") {
    static_assert(std::is_base_of_v<zerobuffer::zerobuffer_exception, zerobuffer::buffer_not_found_exception>);
    static_assert(std::is_base_of_v<zerobuffer::zerobuffer_exception, zerobuffer::writer_already_connected_exception>);
    static_assert(std::is_base_of_v<zerobuffer::zerobuffer_exception, zerobuffer::reader_already_connected_exception>);
    static_assert(std::is_base_of_v<zerobuffer::zerobuffer_exception, zerobuffer::buffer_full_exception>);
    static_assert(std::is_base_of_v<zerobuffer::zerobuffer_exception, zerobuffer::reader_dead_exception>);
    static_assert(std::is_base_of_v<zerobuffer::zerobuffer_exception, zerobuffer::writer_dead_exception>);
    static_assert(std::is_base_of_v<zerobuffer::zerobuffer_exception, zerobuffer::frame_too_large_exception>);
    static_assert(std::is_base_of_v<std::runtime_error, zerobuffer::zerobuffer_exception>);
    CHECK_FALSE(Frame::invalid().valid());
}

// "Example 1: Immutable Request-Response", the server, and the client of example 3.
TEST_CASE("immutable request and response") {
    const support::Name unique("image-processing");
    const std::string& name = unique;
    auto& factory = IDuplexChannelFactory::getInstance();
    auto server = factory.createImmutableServer(name, BufferConfig(4096, 256*1024*1024));

    // Process requests and return new response data
    server->start([](const Frame& request) -> std::vector<uint8_t> {
        // Server automatically preserves request.Sequence in the response
        auto processed = processImage(request.data(), request.size());
        return processed;
    });

    auto client = factory.createClient(name);
    std::vector<uint8_t> image = loadImage();

    // Send request and get sequence number
    uint64_t sequence_number = client->sendRequest(image.data(), image.size());

    // Receive response
    auto response = client->receiveResponse(5000);

    // Check if this is our response by matching sequence number
    if (response.valid() && response.sequence() == sequence_number) {
        saveImage(response);
    }
    CHECK(saved == std::vector<uint8_t>{5, 4, 3, 2, 1});
}

// "Example 3: Mutable Zero-Copy Processing".
TEST_CASE("mutable processing") {
    const support::Name unique("filters");
    const std::string& name = unique;
    auto& factory = IDuplexChannelFactory::getInstance();
    auto server = factory.createMutableServer(name, BufferConfig(4096, 256*1024*1024));
    server->start([](Frame& request) {
        for (uint8_t& byte : request.mutable_span()) byte = static_cast<uint8_t>(255 - byte);
    });
    saved.clear();

    auto client = factory.createClient(name);
    std::vector<uint8_t> image = loadImage();

    // Send request and get sequence number
    uint64_t sequence_number = client->sendRequest(image.data(), image.size());

    // Receive response
    auto response = client->receiveResponse(5000);

    // Check if this is our response by matching sequence number
    if (response.valid() && response.sequence() == sequence_number) {
        saveImage(response);
    }
    CHECK(saved == std::vector<uint8_t>{254, 253, 252, 251, 250});
}

// "Core Interfaces": each can be implemented by others, for tests of what uses them.
TEST_CASE("the interfaces are as asked for") {
    uint64_t (IDuplexClient::*sendRequest)(const void*, size_t) = &IDuplexClient::sendRequest;
    std::pair<uint64_t, std::span<uint8_t>> (IDuplexClient::*acquireRequestBuffer)(size_t) = &IDuplexClient::acquireRequestBuffer;
    void (IDuplexClient::*commitRequest)() = &IDuplexClient::commitRequest;
    bool (IDuplexClient::*isServerConnected)() const = &IDuplexClient::isServerConnected;
    void (IDuplexServer::*stop)() = &IDuplexServer::stop;
    bool (IDuplexServer::*isRunning)() const = &IDuplexServer::isRunning;
    std::unique_ptr<IImmutableDuplexServer> (IDuplexChannelFactory::*createImmutableServer)(
        const std::string&, const BufferConfig&) = &IDuplexChannelFactory::createImmutableServer;
    std::unique_ptr<IMutableDuplexServer> (IDuplexChannelFactory::*createMutableServer)(
        const std::string&, const BufferConfig&) = &IDuplexChannelFactory::createMutableServer;
    std::unique_ptr<IDuplexClient> (IDuplexChannelFactory::*createClient)(const std::string&) =
        &IDuplexChannelFactory::createClient;
    static_assert(std::is_same_v<decltype(std::declval<IDuplexClient&>().receiveResponse(5000)), Frame>);
    CHECK((sendRequest && acquireRequestBuffer && commitRequest && isServerConnected && stop && isRunning &&
           createImmutableServer && createMutableServer && createClient));

    struct Mock final : IImmutableDuplexServer {
        using IImmutableDuplexServer::start;
        void stop() override { running = false; }
        bool isRunning() const override { return running; }
        void onError(ErrorHandler) override {}
        void onInit(InitHandler) override {}
        void setPoolSize(std::size_t) override {}
        std::string channel() const override { return "mock"; }
        void start(RequestHandler handler, ProcessingMode) override { running = handler(Frame::invalid()).size() == 2; }
        bool running = false;
    };
    Mock mock;
    mock.start([](const Frame&) { return std::string("ok"); });
    CHECK(mock.isRunning());
}
