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

    internal LentFrame(ReaderHandle reader) => _reader = reader;

    /// <summary>Ends the last frame; by the thread that is inside, which reads next.</summary>
    internal void EndByRead() => EndAsPublisher();

    /// <summary>Publishes the frame that the reader has lent; by the thread that is inside.</summary>
    internal Frame Lend(in NativeFrameRef lent)
    {
        if (_reader.Shares)
        {
            byte shared = 0;
            _ = Api.zb_reader_is_frame_ref_shared(_reader.Pointer, &shared, null);
            Volatile.Write(ref _isShared, shared != 0);
        }
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
                _ = Api.zb_reader_release_frame_ref(_reader.Pointer, null);
                Volatile.Write(ref _reader.Lent, 0);
            }
            _reader.Leave(asOwner: true);
            return;
        }
        ulong sequence = SequenceOrZero;
        // A guest before the frame ends: once it has ended, only that keeps the handle.
        _reader.EnterToGiveBack();
        if (TryEnd(version))
        {
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

    internal override Span<byte> Mutable(long version) => MutableUnlessShared(version);

    internal override OwnedFrame ToForward(ref long version, out bool wasLent)
    {
        OwnedFrame owned = Retain(version).ToForward(out version, out _);
        wasLent = true;
        return owned;
    }

    internal override Frame Retain(long version)
    {
        _ = Size(version);
        // Reads are kept out meanwhile; after a close there are none.
        bool open = !_reader.IsClosed;
        bool owner = open && _reader.Enter();
        if (!open)
        {
            _reader.EnterToGiveBack();
        }
        try
        {
            // The frame may have ended before this thread was in.
            _ = Size(version);
            var kept = new OwnedFrame();
            void* error = null;
            Errors.ThrowIfFailed(Api.zb_reader_keep_frame_ref(_reader.Pointer, kept.Empty(), &error), error);
            if (TryEnd(version))
            {
                Interlocked.CompareExchange(ref _reader.Lent, 0, version);
            }
            return kept.Filled();
        }
        finally
        {
            if (open)
            {
                _reader.Leave(owner);
            }
            else
            {
                _reader.LeaveAsGuest();
            }
        }
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
