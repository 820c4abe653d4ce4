using System.Runtime.InteropServices;
using Microsoft.Extensions.Logging;
using ZeroBuffer.Native;

namespace ZeroBuffer.DuplexChannel;

/// <summary>The immutable server that the library makes; see <see cref="IImmutableDuplexServer"/>.</summary>
public sealed class ImmutableDuplexServer : DuplexServer, IImmutableDuplexServer
{
    /// <summary>Creates the request buffer of the channel and its server.</summary>
    /// <exception cref="ZeroBufferException">Those of <see cref="Reader(string, BufferConfig?)"/>.</exception>
    public ImmutableDuplexServer(string channelName, BufferConfig? config = null, ILogger<ImmutableDuplexServer>? logger = null)
        : base(channelName, config, mutable: false, logger)
    {
    }

    /// <inheritdoc/>
    public unsafe void Start(RequestHandler handler, ProcessingMode mode = ProcessingMode.SingleThread)
    {
        ArgumentNullException.ThrowIfNull(handler);
        Run(
            (request, responder) =>
            {
                ReadOnlySpan<byte> answer = handler(request);
                void* error = null;
                fixed (byte* bytes = &MemoryMarshal.GetReference(answer))
                {
                    Errors.ThrowIfFailed(Api.zb_responder_reply(responder, bytes == null ? (byte*)1 : bytes, (nuint)answer.Length, &error), error);
                }
            },
            mode);
    }
}
