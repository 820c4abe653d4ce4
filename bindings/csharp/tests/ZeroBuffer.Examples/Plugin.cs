using Microsoft.Extensions.Logging;
using ZeroBuffer.DuplexChannel;

namespace ZeroBuffer.Examples;

/// <summary>What a test does with the library in a load context of its own.</summary>
public static class Plugin
{
    /// <summary>
    /// Moves a frame, answers a request and fails another one, with a logger set, and leaves a reader and a started server open. Returns the
    /// messages of the library that came.
    /// </summary>
    public static int Play(string name)
    {
        var logger = new Counter();
        var left = new Reader(name, new BufferConfig(64, 4096), logger);
        using (var writer = new Writer(name))
        {
            writer.WriteFrame(new byte[] { 1 });
            if (left.ReadFrame().Data[0] != 1)
            {
                throw new InvalidOperationException("a wrong byte");
            }
        }
        IImmutableDuplexServer server = DuplexChannelFactory.Instance.CreateImmutableServer(name + "-server", new BufferConfig(64, 4096));
        server.Start(request => request.Data[0] == 0 ? throw new ArgumentException("asked for") : request.Data);
        using IDuplexClient client = DuplexChannelFactory.Instance.CreateClient(name + "-server");
        using DuplexResponse response = client.Call(new byte[] { 7 }, TimeSpan.FromSeconds(20));
        try
        {
            client.Call(new byte[] { 0 }, TimeSpan.FromSeconds(20));
        }
        catch (RequestFailedException)
        {
            // The library logs it.
        }
        // Nothing ends this before the context does.
        _ = left.ReadFrameAsync().AsTask();
        return logger.Count;
    }

    private sealed class Counter : ILogger<Reader>
    {
        private int _count;

        internal int Count => Volatile.Read(ref _count);

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
            Interlocked.Increment(ref _count);
    }
}
