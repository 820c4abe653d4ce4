using Microsoft.Extensions.Logging;

namespace ZeroBuffer.DuplexChannel;

/// <summary>The mutable server that the library makes; see <see cref="IMutableDuplexServer"/>.</summary>
public sealed class MutableDuplexServer : DuplexServer, IMutableDuplexServer
{
    /// <summary>Creates the request buffer of the channel and its server.</summary>
    /// <exception cref="ZeroBufferException">Those of <see cref="Reader(string, BufferConfig?)"/>.</exception>
    public MutableDuplexServer(string channelName, BufferConfig? config = null, ILogger<MutableDuplexServer>? logger = null)
        : base(channelName, config, mutable: true, logger)
    {
    }

    /// <inheritdoc/>
    public unsafe void Start(Action<Frame> handler, ProcessingMode mode = ProcessingMode.SingleThread)
    {
        ArgumentNullException.ThrowIfNull(handler);
        Run((request, _) => handler(request), mode);
    }
}
