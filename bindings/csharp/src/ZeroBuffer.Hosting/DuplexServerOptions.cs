using ZeroBuffer.DuplexChannel;

namespace ZeroBuffer.Hosting;

/// <summary>How a duplex server is created and runs its handler.</summary>
public sealed class DuplexServerOptions
{
    /// <summary>Sizes and rights of the request buffer.</summary>
    public BufferConfig Config { get; } = new();

    /// <summary>How the handler is called. <see cref="ProcessingMode.SingleThread"/> by default.</summary>
    public ProcessingMode Mode { get; set; }

    /// <summary>The number of threads of <see cref="ProcessingMode.ThreadPool"/>; null for one for each processor.</summary>
    public int? PoolSize { get; set; }
}
