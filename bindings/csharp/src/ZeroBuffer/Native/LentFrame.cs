using System.Runtime.CompilerServices;

namespace ZeroBuffer.Native;

/// <summary>
/// The frames that a reader lends, one after the other, which is the cheapest way to read. The loan ends with the next read, which
/// gives the bytes back, or by <see cref="End"/> on any thread. <see cref="Retain"/> turns the loan into an owned frame.
/// </summary>
/// <remarks>
/// While a frame is valid, <see cref="ReaderHandle.Lent"/> is its version, and keeps the handle from being freed. It is set before the
/// frame is published, and cleared by the code that ends the frame, after the bytes were given back.
/// </remarks>
internal sealed unsafe class LentFrame : FrameState
{
    private readonly ReaderHandle _reader;
    private bool _isShared;

    /// <summary>
    /// Whether the writer may need the bytes as soon as the frame ends; otherwise the next read gives them back. For the thread that is inside.
    /// </summary>
    private bool _isDue;

    /// <summary>How many reads follow a <see cref="TryTake"/> in vain before the next one: a reader that keeps up with its writer has no use for it.</summary>
    private const int Pause = 4;

    /// <summary>Reads to go until then.</summary>
    private int _pause;

    /// <summary>The frame's bytes as a private copy, if it has one.</summary>
    private OwnedFrame? _copy;

    internal LentFrame(ReaderHandle reader) => _reader = reader;

    /// <summary>Whether nothing speaks against <see cref="TryTake"/>; a hint.</summary>
    internal bool MayTake => _pause == 0 && !IsUsedUp;

    /// <summary>Ends the last frame; by the thread that is inside, which reads next.</summary>
    internal void EndByRead() => EndAsPublisher();

    /// <summary>Ends the copy of the last frame, which has ended.</summary>
    internal void EndCopy() => Interlocked.Exchange(ref _copy, null)?.EndLast();

    /// <summary>Publishes the frame that the reader has lent; by the thread that is inside.</summary>
    internal Frame Lend(in NativeFrameRef lent)
    {
        if (_pause > 0)
        {
            _pause--;
        }
        if (_reader.Shares)
        {
            byte shared = 0;
            _ = Api.zb_reader_is_frame_ref_shared(_reader.Pointer, &shared, null);
            Volatile.Write(ref _isShared, shared != 0);
        }
        return Publish(lent, isDue: true);
    }

    /// <summary>
    /// Reads a frame that is there, if that is simple; otherwise another read finds out, which must follow. Ends the last frame. By the thread that
    /// is inside.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal bool TryTake(out Frame frame)
    {
        NativeFrameRef lent;
        byte isDue;
        EndByRead();
        if (Api.zb_reader_take_frame_ref(_reader.Pointer, &lent, &isDue) == 0)
        {
            _pause = Pause;
            Volatile.Write(ref _reader.Lent, 0);
            frame = default;
            return false;
        }
        // A shared frame is not simple.
        Volatile.Write(ref _isShared, false);
        frame = Publish(lent, isDue != 0);
        return true;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private Frame Publish(in NativeFrameRef lent, bool isDue)
    {
        _isDue = isDue;
        long version = ++_reader.LastVersion;
        Volatile.Write(ref _reader.Lent, version);
        return Publish(lent.Data, lent.Size, lent.Sequence, version);
    }

    internal override void End(long version)
    {
        if (Version != version)
        {
            return;
        }
        if (_reader.TryEnterBriefly())
        {
            // No other thread reads meanwhile, so that the frame that is lent is this one. Another thread may end it at the same
            // time: then the library gives the bytes back once, and the second call finds nothing lent.
            if (Version == version)
            {
                EndAsPublisher();
                if (_isDue)
                {
                    Release();
                }
                Volatile.Write(ref _reader.Lent, 0);
            }
            _reader.Leave(asOwner: true);
        }
        else
        {
            EndAsAny(version);
        }
    }

    /// <summary>Ends a frame on a thread that does not own the reader, or is inside.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private void EndAsAny(long version)
    {
        ulong sequence = SequenceOrZero;
        // A guest before the frame ends: once it has ended, only that keeps the handle.
        _reader.EnterToGiveBack();
        if (TryEnd(version))
        {
            EndCopy();
            GiveBack(sequence, version);
        }
        _reader.LeaveAsGuest();
    }

    internal override bool IsShared(long version)
    {
        bool shared = Volatile.Read(ref _isShared);
        _ = Size(version);
        return shared;
    }

    internal override Span<byte> Mutable(long version)
    {
        if (!IsShared(version))
        {
            return new Span<byte>(Pointer(version), checked((int)Size(version)));
        }
        bool isInside = Enter(out bool owner);
        try
        {
            _ = Size(version);
            OwnedFrame copy = KeepLoan();
            Span<byte> bytes = copy.Mutable(copy.Version);
            // The next frame gets another state.
            UseUp(version);
            Move(copy.Pointer(copy.Version));
            Volatile.Write(ref _isShared, false);
            Volatile.Write(ref _copy, copy);
            // Another thread that ends the frame meanwhile sees the copy, or is seen here.
            Interlocked.MemoryBarrier();
            if (Version != version)
            {
                EndCopy();
                ThrowEnded();
            }
            return bytes;
        }
        finally
        {
            Leave(isInside, owner);
        }
    }

    internal override OwnedFrame ToForward(ref long version, out bool wasLent)
    {
        OwnedFrame owned = Retain(version).ToForward(out version, out _);
        wasLent = true;
        return owned;
    }

    internal override Frame Retain(long version)
    {
        _ = Size(version);
        bool isInside = Enter(out bool owner);
        try
        {
            // The frame may have ended before this thread was in.
            _ = Size(version);
            OwnedFrame kept = Interlocked.Exchange(ref _copy, null) ?? KeepLoan();
            if (TryEnd(version))
            {
                Interlocked.CompareExchange(ref _reader.Lent, 0, version);
            }
            return new Frame(kept, kept.Version);
        }
        finally
        {
            Leave(isInside, owner);
        }
    }

    /// <summary>Enters for a call that keeps reads out; after a close, there are none, and it enters as a guest.</summary>
    private bool Enter(out bool owner)
    {
        bool isInside = !_reader.IsClosed;
        owner = isInside && _reader.Enter();
        if (!isInside)
        {
            _reader.EnterToGiveBack();
        }
        return isInside;
    }

    private void Leave(bool isInside, bool owner)
    {
        if (isInside)
        {
            _reader.Leave(owner);
        }
        else
        {
            _reader.LeaveAsGuest();
        }
    }

    /// <summary>Makes an owned frame of the loan; by the thread that keeps reads out.</summary>
    private OwnedFrame KeepLoan()
    {
        var kept = new OwnedFrame();
        void* error = null;
        Errors.ThrowIfFailed(Api.zb_reader_keep_frame_ref(_reader.Pointer, kept.Empty(), &error), error);
        _ = kept.Filled();
        return kept;
    }

    /// <summary>Gives the bytes back; by the owner, which is inside.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private void Release()
    {
        EndCopy();
        _ = Api.zb_reader_release_frame_ref(_reader.Pointer, null);
        _isDue = false;
    }

    private void GiveBack(ulong sequence, long version)
    {
        _ = Api.zb_reader_release_frame_ref_of(_reader.Pointer, sequence, null);
        // Not if the next read has lent another one meanwhile.
        Interlocked.CompareExchange(ref _reader.Lent, 0, version);
        if (_reader.IsClosed)
        {
            _reader.FreeIfUnused();
        }
    }
}
