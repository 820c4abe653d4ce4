using System.Runtime.InteropServices;

namespace ZeroBuffer.Native;

/// <summary>The requests that a thread of a server handles, one after the other.</summary>
internal sealed unsafe class RequestState : FrameState
{
    [ThreadStatic]
    private static RequestState? _ofThread;

    private NativeFrame* _frame;
    private long _last;

    /// <summary>Publishes a request for the time of its handler's call, which ends by <see cref="Frame.Dispose"/>.</summary>
    internal static Frame Begin(NativeFrame* request)
    {
        RequestState? state = _ofThread;
        if (state is null || state.IsUsedUp)
        {
            _ofThread = state = new RequestState();
        }
        state._frame = request;
        return state.Publish(request->Data, request->Size, request->Sequence, ++state._last);
    }

    /// <summary>The request goes when its handler returns, whatever the handler does with the frame.</summary>
    internal override void End(long version) => TryEnd(version);

    internal override Frame Retain(long version) => CopyAndEnd(version);

    internal override Span<byte> Mutable(long version)
    {
        int size = checked((int)Size(version));
        byte* data = Api.zb_frame_mutable_data(_frame);
        if (data == null)
        {
            throw new InvalidStateException("the request of an immutable server cannot be changed: create a mutable server");
        }
        return new Span<byte>(data, size);
    }

    internal override bool IsCancelled(long version)
    {
        _ = Size(version);
        return Api.zb_frame_is_cancelled(_frame) != 0;
    }

    internal override TimeSpan? TimeLeft(long version)
    {
        _ = Size(version);
        long left = Api.zb_frame_time_left_ns(_frame);
        return left < 0 ? null : TimeSpan.FromTicks(left / 100);
    }

    private protected override void ThrowEnded() =>
        throw new ObjectDisposedException(nameof(Frame), "The request ended when its handler returned; Retain() keeps a copy.");
}

/// <summary>A copy of a request, until it is disposed. Without a finaliser, as <see cref="OwnedFrame"/>.</summary>
internal sealed unsafe class CopiedFrame : FrameState
{
    private const long FrameVersion = 1;

    private byte* _bytes;

    internal Frame Fill(ReadOnlySpan<byte> data, ulong sequence)
    {
        _bytes = (byte*)NativeMemory.Alloc((nuint)Math.Max(data.Length, 1));
        data.CopyTo(new Span<byte>(_bytes, data.Length));
        return Publish(_bytes, (nuint)data.Length, sequence, FrameVersion);
    }

    internal override void End(long version)
    {
        if (TryEnd(version))
        {
            NativeMemory.Free(_bytes);
        }
    }

    internal override Frame Retain(long version)
    {
        _ = Size(version);
        return new Frame(this, version);
    }
}
