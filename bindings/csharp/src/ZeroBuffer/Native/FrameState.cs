using System.Buffers;

namespace ZeroBuffer.Native;

/// <summary>
/// The address and size of one frame after the other. A <see cref="Frame"/> is a state and the version that it had. The version
/// changes when the frame ends, so that a stale copy is noticed.
/// </summary>
/// <remarks>
/// A version is a positive number while its frame is valid, and its negative once the frame has ended. To publish the next frame, a
/// reader first ends the version, then writes the address, then the new version. A caller reads the address first and the version
/// last, so it never takes an address for that of another frame.
/// </remarks>
internal abstract unsafe class FrameState : MemoryManager<byte>
{
    private nint _data;
    private nint _size;
    private ulong _sequence;
    private long _version;

    /// <summary>The version at which a <see cref="Memory{T}"/> was given out, 0 if none was.</summary>
    private long _memoryVersion;

    internal long Version => Volatile.Read(ref _version);

    /// <summary>Whether the state gave a <see cref="Memory{T}"/> out, which has no version: it must not serve another frame.</summary>
    internal bool IsUsedUp => _memoryVersion != 0;

    /// <summary>The number of the frame, for who knows that its version has not changed, or finds out by ending it.</summary>
    private protected ulong SequenceOrZero => Volatile.Read(ref _sequence);

    /// <summary>The place of a frame's bytes, or an exception if the frame has ended.</summary>
    internal ReadOnlySpan<byte> Look(long version)
    {
        nint data = Volatile.Read(ref _data);
        nint size = Volatile.Read(ref _size);
        if (Volatile.Read(ref _version) != version)
        {
            ThrowEnded();
        }
        return new ReadOnlySpan<byte>((void*)data, checked((int)size));
    }

    internal byte* Pointer(long version)
    {
        nint data = Volatile.Read(ref _data);
        if (Volatile.Read(ref _version) != version)
        {
            ThrowEnded();
        }
        return (byte*)data;
    }

    internal nint Size(long version)
    {
        nint size = Volatile.Read(ref _size);
        if (Volatile.Read(ref _version) != version)
        {
            ThrowEnded();
        }
        return size;
    }

    internal ulong Sequence(long version)
    {
        ulong sequence = Volatile.Read(ref _sequence);
        if (Volatile.Read(ref _version) != version)
        {
            ThrowEnded();
        }
        return sequence;
    }

    internal Memory<byte> TakeMemory(long version)
    {
        int size = checked((int)Size(version));
        _memoryVersion = version;
        return CreateMemory(size);
    }

    /// <summary>Ends a frame, if that was not done; from any thread.</summary>
    internal abstract void End(long version);

    /// <summary>A frame with the same bytes that is valid until it is disposed.</summary>
    internal abstract Frame Retain(long version);

    /// <summary>A frame with a copy of the bytes; this one ends.</summary>
    private protected Frame CopyAndEnd(long version)
    {
        Frame copy = new CopiedFrame().Fill(Look(version), Sequence(version));
        End(version);
        return copy;
    }

    /// <summary>Whether the bytes are another reader's.</summary>
    internal virtual bool IsShared(long version)
    {
        _ = Size(version);
        return false;
    }

    /// <summary>The frame to be passed on: an owned one. A lent one ends.</summary>
    internal virtual OwnedFrame ToForward(ref long version, out bool wasLent) =>
        throw new InvalidStateException("no reader has read this frame: write its bytes instead");

    /// <summary>The bytes of a frame that may be changed.</summary>
    internal virtual Span<byte> Mutable(long version) => new(Pointer(version), checked((int)Size(version)));

    /// <summary>Whether the response to this request is still wanted.</summary>
    internal virtual bool IsCancelled(long version)
    {
        _ = Size(version);
        return false;
    }

    internal virtual TimeSpan? TimeLeft(long version)
    {
        _ = Size(version);
        return null;
    }

    /// <summary>Publishes a frame, and returns it.</summary>
    private protected Frame Publish(byte* data, nuint size, ulong sequence, long version)
    {
        Volatile.Write(ref _data, (nint)data);
        Volatile.Write(ref _size, (nint)size);
        Volatile.Write(ref _sequence, sequence);
        Volatile.Write(ref _version, version);
        return new Frame(this, version);
    }

    /// <summary>The frame that is valid goes on with the same bytes elsewhere; by the only thread that publishes.</summary>
    private protected void Move(byte* data) => Volatile.Write(ref _data, (nint)data);

    /// <summary>Has this state serve no other frame.</summary>
    private protected void UseUp(long version) => _memoryVersion = version;

    /// <summary>Ends a version; false if it has ended before.</summary>
    private protected bool TryEnd(long version) => Interlocked.CompareExchange(ref _version, -version, version) == version;

    /// <summary>Makes a version valid again, by the thread that has ended it.</summary>
    private protected void Revive(long version) => Volatile.Write(ref _version, version);

    /// <summary>Ends the frame that is valid, if one is, by the only thread that publishes.</summary>
    private protected void EndAsPublisher() => Volatile.Write(ref _version, -1);

    private protected virtual void ThrowEnded() =>
        throw new ObjectDisposedException(nameof(Frame), "The frame was disposed, or ended by the next read; Retain() keeps a frame.");

    /// <inheritdoc/>
    public override Span<byte> GetSpan()
    {
        ReadOnlySpan<byte> bytes = Look(_memoryVersion);
        fixed (byte* first = bytes)
        {
            return new Span<byte>(first, bytes.Length);
        }
    }

    /// <inheritdoc/>
    public override MemoryHandle Pin(int elementIndex = 0)
    {
        Span<byte> bytes = GetSpan();
        if ((uint)elementIndex > (uint)bytes.Length)
        {
            throw new ArgumentOutOfRangeException(nameof(elementIndex));
        }
        return new MemoryHandle(Pointer(_memoryVersion) + elementIndex, pinnable: this);
    }

    /// <inheritdoc/>
    public override void Unpin()
    {
        // Shared memory does not move.
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        // The owner of a Memory<byte> is the frame, which is disposed by End.
    }
}

/// <summary>Stands for the end of a stream: a frame that never was.</summary>
internal sealed class EndOfStreamState : FrameState
{
    internal const long FrameVersion = 1;

    internal static readonly EndOfStreamState Instance = new();

    internal override void End(long version)
    {
    }

    internal override Frame Retain(long version) => new(this, version);
}
