using System.Runtime.CompilerServices;

namespace ZeroBuffer.Native;

/// <summary>Frames that are owned: a <c>zb_frame</c> that is filled once or again and again.</summary>
/// <remarks>
/// No finaliser releases a frame that was forgotten: a span of it may still be in use when nothing refers to the state any more. Such a
/// frame takes up its space until the process ends.
/// </remarks>
internal sealed unsafe class OwnedFrame : FrameState
{
    private readonly ulong[] _words = GC.AllocateArray<ulong>(sizeof(NativeFrame) / sizeof(ulong), pinned: true);
    private readonly NativeFrame* _frame;
    private long _last;
    private long _released;

    /// <summary>In <see cref="_holds"/> while a call may move the bytes, which no other call uses meanwhile.</summary>
    private const int Changing = 1 << 30;

    /// <summary>Twice the number of calls that use the frame, or <see cref="Changing"/>; and 1 if the last of them is to release it.</summary>
    private int _holds;

    internal OwnedFrame() => _frame = (NativeFrame*)Unsafe.AsPointer(ref _words[0]);

    /// <summary>Whether the last frame has ended and been released.</summary>
    internal bool IsFree => Volatile.Read(ref _released) == _last;

    /// <summary>Ends the last frame, and returns the place for the next one. One thread at a time fills a state.</summary>
    internal NativeFrame* Empty()
    {
        if (_last != 0)
        {
            End(_last);
            // Another thread may be about to release it.
            var turns = default(SpinWait);
            while (Volatile.Read(ref _released) != _last)
            {
                turns.SpinOnce();
                // Unless it could not be passed on, and stays.
                End(_last);
            }
        }
        return _frame;
    }

    /// <summary>Publishes what the library has put there.</summary>
    internal Frame Filled() => Publish(_frame->Data, _frame->Size, _frame->Sequence, ++_last);

    /// <summary>Publishes a frame that the library has put elsewhere, and takes it from there.</summary>
    internal Frame TakeFrom(NativeFrame* frame)
    {
        // It may be moved byte by byte.
        *_frame = *frame;
        *frame = default;
        return Filled();
    }

    /// <summary>Ends the last frame.</summary>
    internal void EndLast() => End(_last);

    internal override void End(long version)
    {
        // After the end, a call that holds the frame sees that it has ended, or is seen here.
        if (!TryEnd(version))
        {
            return;
        }
        if (Volatile.Read(ref _holds) == 0)
        {
            Release();
        }
        else if (Interlocked.Or(ref _holds, 1) == 0)
        {
            ReleaseAsLast();
        }
    }

    /// <summary>Keeps the bytes, even if the frame ends meanwhile, until <see cref="LetGo"/>.</summary>
    internal void Hold(long version)
    {
        int holds;
        do
        {
            holds = Volatile.Read(ref _holds);
            if ((holds & 1) != 0)
            {
                ThrowEnded();
            }
            if (holds >= Changing)
            {
                throw new InvalidStateException("another thread is changing the frame");
            }
        }
        while (Interlocked.CompareExchange(ref _holds, holds + 2, holds) != holds);
        if (Version != version)
        {
            LetGo();
            ThrowEnded();
        }
    }

    internal void LetGo()
    {
        if (Interlocked.Add(ref _holds, -2) == 1)
        {
            ReleaseAsLast();
        }
    }

    /// <summary>Passes the frame on, which is held and stays.</summary>
    internal int ForwardTo(void* writer, byte* shared, void** error)
    {
        int status = Api.zb_writer_forward_to(writer, _frame, shared, error);
        GC.KeepAlive(this);
        return status;
    }

    internal override bool IsShared(long version)
    {
        _ = Size(version);
        bool shared = Api.zb_frame_is_shared(_frame) != 0;
        GC.KeepAlive(this);
        return shared;
    }

    internal override Span<byte> Mutable(long version)
    {
        if (Interlocked.CompareExchange(ref _holds, Changing, 0) != 0)
        {
            _ = Size(version);
            throw new InvalidStateException("another thread is passing the frame on");
        }
        try
        {
            int size = checked((int)Size(version));
            byte* data = null;
            void* error = null;
            Errors.ThrowIfFailed(Api.zb_frame_to_mut(_frame, &data, &error), error);
            Move(data);
            return new Span<byte>(data, size);
        }
        finally
        {
            if (Interlocked.Add(ref _holds, -Changing) == 1)
            {
                ReleaseAsLast();
            }
        }
    }

    internal override OwnedFrame ToForward(ref long version, out bool wasLent)
    {
        wasLent = false;
        _ = Size(version);
        return this;
    }

    /// <summary>Passes the frame on, which then ends; if that fails, it stays.</summary>
    internal int Forward(long version, void* writer, byte* shared, void** error)
    {
        Take(version);
        int status = Api.zb_writer_forward(writer, _frame, shared, error);
        Volatile.Write(ref _holds, 0);
        if (status == Errors.Ok)
        {
            Volatile.Write(ref _released, version);
        }
        else
        {
            Revive(version);
        }
        GC.KeepAlive(this);
        return status;
    }

    /// <summary>Passes the frame on to the outputs of a tee. It ends, whatever comes of it.</summary>
    internal int PassOn(long version, void* tee, void** error)
    {
        Take(version);
        int status = Api.zb_tee_forward(tee, _frame, error);
        Api.zb_frame_release(_frame);
        Volatile.Write(ref _holds, 0);
        Volatile.Write(ref _released, version);
        GC.KeepAlive(this);
        return status;
    }

    internal override Frame Retain(long version)
    {
        Take(version);
        // The frame may be moved byte by byte; what is left here is empty.
        var kept = new OwnedFrame();
        *kept._frame = *_frame;
        *_frame = default;
        Volatile.Write(ref _holds, 0);
        Volatile.Write(ref _released, version);
        GC.KeepAlive(this);
        return kept.Filled();
    }

    /// <summary>Ends the frame for a call that takes it away.</summary>
    private void Take(long version)
    {
        if (!TryEnd(version))
        {
            ThrowEnded();
        }
        // No call holds it from here on.
        if (Interlocked.CompareExchange(ref _holds, 1, 0) != 0)
        {
            Revive(version);
            throw new InvalidStateException("another thread is passing the frame on");
        }
    }

    private void ReleaseAsLast()
    {
        // No call holds the frame any more.
        Api.zb_frame_release(_frame);
        Volatile.Write(ref _holds, 0);
        Volatile.Write(ref _released, _last);
        GC.KeepAlive(this);
    }

    private void Release()
    {
        Api.zb_frame_release(_frame);
        Volatile.Write(ref _released, _last);
        GC.KeepAlive(this);
    }
}
