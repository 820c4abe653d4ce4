using Microsoft.Extensions.Logging;

namespace ZeroBuffer.DuplexChannel;

/// <summary>Makes the servers and clients of duplex channels.</summary>
public interface IDuplexChannelFactory
{
    /// <summary>Creates the request buffer of a channel and its server.</summary>
    /// <inheritdoc cref="ImmutableDuplexServer(string, BufferConfig, ILogger{ImmutableDuplexServer}?, TimeSpan?)"/>
    IImmutableDuplexServer CreateImmutableServer(string channelName, BufferConfig config, TimeSpan? timeout = null);

    /// <summary>Connects to the server of a channel.</summary>
    /// <exception cref="BufferNotFoundException">There is no server.</exception>
    IDuplexClient CreateClient(string channelName);

    /// <summary>Waits until a live server has created the channel.</summary>
    /// <returns>False if that did not happen in time.</returns>
    bool WaitExists(string channelName, TimeSpan timeout, ILogger? logger = null);
}

/// <summary>The factory of this library.</summary>
public class DuplexChannelFactory : IDuplexChannelFactory
{
    private readonly ILoggerFactory? _loggerFactory;

    /// <summary>A factory whose servers log to loggers of this factory.</summary>
    public DuplexChannelFactory(ILoggerFactory? loggerFactory = null) => _loggerFactory = loggerFactory;

    /// <summary>A factory without a logger.</summary>
    public static DuplexChannelFactory Instance { get; } = new();

    /// <inheritdoc/>
    public IImmutableDuplexServer CreateImmutableServer(string channelName, BufferConfig config, TimeSpan? timeout = null) =>
        new ImmutableDuplexServer(channelName, config, _loggerFactory?.CreateLogger<ImmutableDuplexServer>(), timeout);

    /// <inheritdoc/>
    public IDuplexClient CreateClient(string channelName) => new DuplexClient(channelName);

    /// <inheritdoc/>
    public bool WaitExists(string channelName, TimeSpan timeout, ILogger? logger = null) =>
        ImmutableDuplexServer.WaitExists(channelName, timeout, logger);
}
