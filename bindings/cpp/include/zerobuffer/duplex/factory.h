/**
 * @file
 * Makes the servers and clients of duplex channels.
 */
#ifndef ZEROBUFFER_DUPLEX_FACTORY_H
#define ZEROBUFFER_DUPLEX_FACTORY_H

#include <zerobuffer/duplex/client.h>
#include <zerobuffer/duplex/server.h>

#include <memory>
#include <string>

namespace zerobuffer {

/** Makes the servers and clients of duplex channels. Any thread may use it. */
class IDuplexChannelFactory {
public:
    IDuplexChannelFactory() = default;
    IDuplexChannelFactory(const IDuplexChannelFactory&) = delete;
    IDuplexChannelFactory& operator=(const IDuplexChannelFactory&) = delete;
    virtual ~IDuplexChannelFactory() = default;

    /** Creates the request buffer of a channel and its server, whose handler answers with its own bytes. Throws like Reader. */
    [[nodiscard]] virtual std::unique_ptr<IImmutableDuplexServer> createImmutableServer(const std::string& channel_name,
                                                                                        const BufferConfig& config) = 0;

    /** Creates the request buffer of a channel and its server, whose handler changes requests in place. Throws like Reader. */
    [[nodiscard]] virtual std::unique_ptr<IMutableDuplexServer> createMutableServer(const std::string& channel_name,
                                                                                    const BufferConfig& config) = 0;

    /** Connects to the server of a channel. Throws like DuplexClient. */
    [[nodiscard]] virtual std::unique_ptr<IDuplexClient> createClient(const std::string& channel_name) = 0;

    /** Connects to the server of a channel with `options`. Throws like DuplexClient. */
    [[nodiscard]] virtual std::unique_ptr<IDuplexClient> createClient(const std::string& channel_name,
                                                                      const ClientOptions& options) {
        static_cast<void>(channel_name);
        static_cast<void>(options);
        detail::unsupported("IDuplexChannelFactory::createClient with options");
    }

    /** The factory of this library: `auto& factory = IDuplexChannelFactory::getInstance();`. */
    static IDuplexChannelFactory& getInstance();
};

/** The factory of this library; all instances are equal. */
class DuplexChannelFactory final : public IDuplexChannelFactory {
public:
    [[nodiscard]] std::unique_ptr<IImmutableDuplexServer> createImmutableServer(const std::string& channel_name,
                                                                                const BufferConfig& config) override {
        return std::make_unique<ImmutableDuplexServer>(channel_name, config);
    }

    [[nodiscard]] std::unique_ptr<IMutableDuplexServer> createMutableServer(const std::string& channel_name,
                                                                            const BufferConfig& config) override {
        return std::make_unique<MutableDuplexServer>(channel_name, config);
    }

    [[nodiscard]] std::unique_ptr<IDuplexClient> createClient(const std::string& channel_name) override {
        return std::make_unique<DuplexClient>(channel_name);
    }

    [[nodiscard]] std::unique_ptr<IDuplexClient> createClient(const std::string& channel_name,
                                                              const ClientOptions& options) override {
        return std::make_unique<DuplexClient>(channel_name, options);
    }
};

inline IDuplexChannelFactory& IDuplexChannelFactory::getInstance() {
    static DuplexChannelFactory factory;
    return factory;
}

}  // namespace zerobuffer

#endif
