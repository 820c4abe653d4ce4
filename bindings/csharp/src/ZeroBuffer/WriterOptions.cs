using ZeroBuffer.Native;

namespace ZeroBuffer;

/// <summary>How a writer connects and waits.</summary>
/// <example>
/// <code>
/// using var writer = new Writer("camera", new WriterOptions { ConnectTimeout = TimeSpan.FromSeconds(30) });
/// </code>
/// </example>
public sealed class WriterOptions
{
    /// <summary>How long a write waits for space: zero polls once, <see cref="Timeout.InfiniteTimeSpan"/> waits without limit. 5 s by default.</summary>
    public TimeSpan WriteTimeout { get; set; } = TimeSpan.FromMilliseconds(Milliseconds.Default);

    /// <summary>How long connecting waits for a reader to create the buffer. Zero by default.</summary>
    public TimeSpan ConnectTimeout { get; set; }

    /// <summary>Whether <see cref="Writer.Forward"/> lends frames rather than copying them, where both readers allow it.</summary>
    public bool RequestPayloadSharing { get; set; }

    /// <summary>How the writer waits for space.</summary>
    public WaitStrategy WaitStrategy { get; set; }

    /// <summary>The handle of the C ABI, to be freed by <c>zb_writer_options_free</c>.</summary>
    internal unsafe void* ToNative()
    {
        long write = Milliseconds.From(WriteTimeout);
        long connect = Milliseconds.From(ConnectTimeout);
        void* options = Api.zb_writer_options_new();
        int status = Api.zb_writer_options_set_write_timeout(options, write)
            | Api.zb_writer_options_set_connect_timeout(options, connect)
            | Api.zb_writer_options_set_request_payload_sharing(options, (byte)(RequestPayloadSharing ? 1 : 0))
            | Api.zb_writer_options_set_wait_strategy(options, (int)WaitStrategy);
        if (status != Errors.Ok)
        {
            Api.zb_writer_options_free(options);
            throw new InvalidConfigException($"there is no wait strategy {WaitStrategy}");
        }
        return options;
    }
}
