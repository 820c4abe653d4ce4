/**
 * @file
 * Duplex channels: request and response over two buffers.
 *
 * @code
 * // One process:
 * auto& factory = zerobuffer::IDuplexChannelFactory::getInstance();
 * auto server = factory.createImmutableServer("upper", zerobuffer::BufferConfig());
 * server->start([](const zerobuffer::Frame& request) {
 *     std::string text(request.begin(), request.end());
 *     for (char& letter : text) letter = static_cast<char>(std::toupper(letter));
 *     return text;  // kept until it is in the response buffer
 * });
 * // Another one:
 * auto client = zerobuffer::IDuplexChannelFactory::getInstance().createClient("upper");
 * zerobuffer::Frame response = client->call("hello", 5, 5000);
 * @endcode
 */
#ifndef ZEROBUFFER_DUPLEX_H
#define ZEROBUFFER_DUPLEX_H

#include <zerobuffer/duplex/client.h>
#include <zerobuffer/duplex/factory.h>
#include <zerobuffer/duplex/request_handler.h>
#include <zerobuffer/duplex/response_writer.h>
#include <zerobuffer/duplex/server.h>

#endif
