using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace ZeroBuffer.DuplexChannel;

/// <summary>Makes the servers and clients of duplex channels. Any thread may use it.</summary>
public interface IDuplexChannelFactory
{
    /// <summary>Creates the request buffer of a channel and its server, whose handler answers with bytes of its own.</summary>
    /// <exception cref="ZeroBufferException">Those of <see cref="Reader(string, BufferConfig?)"/>.</exception>
    IImmutableDuplexServer CreateImmutableServer(string channelName, BufferConfig config);

    /// <summary>Creates the request buffer of a channel and its server, whose handler changes requests in place.</summary>
    /// <exception cref="ZeroBufferException">Those of <see cref="Reader(string, BufferConfig?)"/>.</exception>
    IMutableDuplexServer CreateMutableServer(string channelName, BufferConfig config);

    /// <summary>Connects to the server of a channel, with all defaults.</summary>
    /// <exception cref="ZeroBufferException">Those of <see cref="DuplexClient(string, ClientOptions?)"/>.</exception>
    IDuplexClient CreateClient(string channelName);

    /// <summary>Connects to the server of a channel.</summary>
    /// <exception cref="ZeroBufferException">Those of <see cref="DuplexClient(string, ClientOptions?)"/>.</exception>
    IDuplexClient CreateClient(string channelName, ClientOptions options) => new DuplexClient(channelName, options);
}

/// <summary>The factory of this library.</summary>
/// <example>
/// <code>
/// using IImmutableDuplexServer server = DuplexChannelFactory.Instance.CreateImmutableServer("image-processing", new BufferConfig());
/// server.Start(request => Process(request.Data));
/// </code>
/// </example>
public sealed class DuplexChannelFactory : IDuplexChannelFactory
{
    private readonly ILoggerFactory _loggerFactory;

    /// <summary>A factory whose servers log to loggers of this factory.</summary>
    public DuplexChannelFactory(ILoggerFactory? loggerFactory = null) => _loggerFactory = loggerFactory ?? NullLoggerFactory.Instance;

    /// <summary>A factory without a logger.</summary>
    public static DuplexChannelFactory Instance { get; } = new();

    /// <inheritdoc/>
    public IImmutableDuplexServer CreateImmutableServer(string channelName, BufferConfig config) =>
        new ImmutableDuplexServer(channelName, config, _loggerFactory.CreateLogger<ImmutableDuplexServer>());

    /// <inheritdoc/>
    public IMutableDuplexServer CreateMutableServer(string channelName, BufferConfig config) =>
        new MutableDuplexServer(channelName, config, _loggerFactory.CreateLogger<MutableDuplexServer>());

    /// <inheritdoc/>
    public IDuplexClient CreateClient(string channelName) => new DuplexClient(channelName);

    /// <inheritdoc/>
    public IDuplexClient CreateClient(string channelName, ClientOptions options) => new DuplexClient(channelName, options);
}
