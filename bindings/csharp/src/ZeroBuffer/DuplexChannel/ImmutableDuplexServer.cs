using System.Diagnostics;
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

    /// <inheritdoc/>
    public unsafe void StartInPlace(Action<Frame, ResponseWriter> handler, ProcessingMode mode = ProcessingMode.SingleThread)
    {
        ArgumentNullException.ThrowIfNull(handler);
        Run(
            (request, responder) =>
            {
                try
                {
                    handler(request, ResponseState.Begin(responder));
                }
                finally
                {
                    ResponseState.End();
                }
            },
            mode);
    }

    /// <inheritdoc/>
    public unsafe void StartAsync(Func<Frame, CancellationToken, ValueTask<ReadOnlyMemory<byte>>> handler)
    {
        ArgumentNullException.ThrowIfNull(handler);
        RunNative((native, responder) => _ = AnswerAsync(handler, DeferredRequest.Begin(native, responder)), ProcessingMode.SingleThread);
    }

    /// <summary>Answers one request; never throws.</summary>
    private async Task AnswerAsync(Func<Frame, CancellationToken, ValueTask<ReadOnlyMemory<byte>>> handler, DeferredRequest request)
    {
        using Activity? activity = Telemetry.StartRequest(Channel, request.Number);
        try
        {
            ReadOnlyMemory<byte> answer = await handler(request.Frame, request.Cancellation).ConfigureAwait(false);
            request.Reply(answer.Span);
        }
        catch (OperationCanceledException) when (request.Cancellation.IsCancellationRequested)
        {
            // The answer is not wanted any more: it goes nowhere.
            request.Reply(default);
        }
#pragma warning disable CA1031 // Whatever it is, it fails the request.
        catch (Exception error)
#pragma warning restore CA1031
        {
            Fail(request, error);
        }
    }
}
