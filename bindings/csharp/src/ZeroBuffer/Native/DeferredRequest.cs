using System.Runtime.InteropServices;

namespace ZeroBuffer.Native;

/// <summary>
/// A request whose answer is put off, <c>zb_deferred</c>. Its bytes stay where they are until <see cref="Reply"/> or <see cref="Fail"/>, one of
/// which is called once.
/// </summary>
internal sealed unsafe class DeferredRequest : FrameState
{
    private const long FrameVersion = 1;

    private readonly CancellationTokenSource _cancellation = new();

    /// <summary>When the client stops waiting, on the clock of <see cref="Environment.TickCount64"/>; null if it set no limit.</summary>
    private readonly long? _end;

    /// <summary>The handle; null once it is freed. Guarded by the lock on <see cref="_cancellation"/>.</summary>
    private void* _deferred;

    private DeferredRequest(NativeFrame* request, void* deferred, long timeLeftNs)
    {
        _deferred = deferred;
        _end = timeLeftNs < 0 ? null : Environment.TickCount64 + (timeLeftNs / 1_000_000);
        Number = request->Sequence;
        Frame = Publish(request->Data, request->Size, request->Sequence, FrameVersion);
    }

    internal Frame Frame { get; }

    internal ulong Number { get; }

    /// <summary>Cancelled when the response is not wanted any more.</summary>
    internal CancellationToken Cancellation => _cancellation.Token;

    /// <summary>Puts the answer off; within the handler.</summary>
    internal static DeferredRequest Begin(NativeFrame* request, void* responder)
    {
        void* deferred = null;
        void* error = null;
        long timeLeft = Api.zb_frame_time_left_ns(request);
        Errors.ThrowIfFailed(Api.zb_responder_defer(responder, &deferred, &error), error);
        var state = new DeferredRequest(request, deferred, timeLeft);
        // Without a thread that looks for cancellations the token stays as it is, and IsCancelled tells.
        void* source = (void*)GCHandle.ToIntPtr(GCHandle.Alloc(state._cancellation));
        _ = Api.zb_deferred_on_cancel(deferred, &Cancel, source, &Free, null);
        return state;
    }

    /// <summary>Answers with a copy of the bytes, which may be those of the request.</summary>
    internal void Reply(ReadOnlySpan<byte> answer)
    {
        fixed (byte* bytes = &MemoryMarshal.GetReference(answer))
        {
            _ = Api.zb_deferred_reply(_deferred, bytes == null ? (byte*)1 : bytes, (nuint)answer.Length, null);
        }
        Release();
    }

    /// <summary>Fails the request with a message.</summary>
    internal void Fail(string message)
    {
        fixed (byte* text = Text.ToUtf8(message.Replace('\0', ' ')))
        {
            _ = Api.zb_deferred_fail(_deferred, text, null);
        }
        Release();
    }

    /// <summary>The request goes when it is answered, whatever the handler does with the frame.</summary>
    internal override void End(long version) => TryEnd(version);

    internal override Frame Retain(long version) => CopyAndEnd(version);

    internal override Span<byte> Mutable(long version)
    {
        _ = Size(version);
        throw new InvalidStateException("the request of an immutable server cannot be changed: create a mutable server");
    }

    internal override bool IsCancelled(long version)
    {
        lock (_cancellation)
        {
            _ = Size(version);
            return _deferred != null && Api.zb_deferred_is_cancelled(_deferred) != 0;
        }
    }

    internal override TimeSpan? TimeLeft(long version)
    {
        _ = Size(version);
        return _end is long end ? TimeSpan.FromMilliseconds(Math.Max(0, end - Environment.TickCount64)) : null;
    }

    private protected override void ThrowEnded() =>
        throw new ObjectDisposedException(nameof(Frame), "The request ended when it was answered; Retain() keeps a copy.");

    private void Release()
    {
        TryEnd(FrameVersion);
        lock (_cancellation)
        {
            Api.zb_deferred_free(_deferred);
            _deferred = null;
        }
    }

    [UnmanagedCallersOnly]
    private static void Cancel(void* userData)
    {
        // What is registered with the token is the user's, and may take long: not on the library's thread.
        if (GCHandle.FromIntPtr((nint)userData).Target is CancellationTokenSource source)
        {
            ThreadPool.UnsafeQueueUserWorkItem(
                static source =>
                {
                    try
                    {
                        source.Cancel();
                    }
                    catch (AggregateException)
                    {
                        // What a callback of the token throws is dropped, as nothing waits for it.
                    }
                },
                source,
                preferLocal: false);
        }
    }

    [UnmanagedCallersOnly]
    private static void Free(void* userData) => GCHandle.FromIntPtr((nint)userData).Free();
}
