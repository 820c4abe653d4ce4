using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using ZeroBuffer.DuplexChannel;

namespace ZeroBuffer.Hosting;

/// <summary>Runs a duplex server from the start of the host to its stop.</summary>
internal sealed class DuplexServerService : IHostedService, IDisposable
{
    private readonly string _channel;
    private readonly DuplexServerOptions _options;
    private readonly IDuplexHandler _handler;
    private readonly ILogger<ImmutableDuplexServer> _logger;
    private ImmutableDuplexServer? _server;

    internal DuplexServerService(string channel, DuplexServerOptions options, IDuplexHandler handler, ILogger<ImmutableDuplexServer> logger)
    {
        _channel = channel;
        _options = options;
        _handler = handler;
        _logger = logger;
    }

    public Task StartAsync(CancellationToken cancellationToken)
    {
        _server = new ImmutableDuplexServer(_channel, _options.Config, _logger);
        if (_options.PoolSize is int threads)
        {
            _server.SetPoolSize(threads);
        }
        _server.Start(_handler.Handle, _options.Mode);
        return Task.CompletedTask;
    }

    public Task StopAsync(CancellationToken cancellationToken)
    {
        // A handler that is still running ends by itself.
        Dispose();
        return Task.CompletedTask;
    }

    public void Dispose() => _server?.Dispose();
}
