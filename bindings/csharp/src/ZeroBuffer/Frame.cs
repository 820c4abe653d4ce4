using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using ZeroBuffer.Native;

namespace ZeroBuffer;

/// <summary>
/// A frame: bytes in shared memory. <b>Valid until it is disposed or its reader reads again</b>; <see cref="Retain"/> returns one
/// that stays until it is disposed.
/// </summary>
/// <remarks>
/// <para>A frame is a small value that can be copied, passed to other threads and kept in lists. Disposing one copy ends all of them.
/// After its end <see cref="IsValid"/> is false, and the bytes cannot be reached: <see cref="ObjectDisposedException"/>.</para>
/// <para>A span that was taken out of a frame is not checked: do not use it after the frame has ended.</para>
/// </remarks>
/// <example>
/// <code>
/// using var reader = new Reader("camera");
/// while (true)
/// {
///     using Frame frame = reader.ReadFrame(TimeSpan.FromSeconds(5));
///     if (!frame.IsValid)
///     {
///         break;
///     }
///     Show(frame.Data);
/// }
/// </code>
/// </example>
public readonly unsafe struct Frame : IDisposable, IEquatable<Frame>
{
    private readonly FrameState? _state;
    private readonly long _version;

    internal Frame(FrameState state, long version)
    {
        _state = state;
        _version = version;
    }

    /// <summary>A frame that is not there: what a read returns when no frame came in time.</summary>
    public static Frame Invalid => default;

    internal static Frame End => new(EndOfStreamState.Instance, EndOfStreamState.FrameVersion);

    /// <summary>Whether there is a frame, and it has not ended.</summary>
    public bool IsValid => _state is not null && _state.Version == _version;

    /// <summary>
    /// Whether this invalid frame means that the writer closed and everything that it wrote has been read. Returned once per writer; later reads wait
    /// for the next writer.
    /// </summary>
    public bool EndOfStream => ReferenceEquals(_state, EndOfStreamState.Instance);

    /// <summary>
    /// The bytes. Do not use the span after the frame has ended: by <see cref="Dispose"/>, or by the next read of its reader.
    /// Empty for a frame that never was valid.
    /// </summary>
    /// <exception cref="ObjectDisposedException">The frame has ended.</exception>
    public ReadOnlySpan<byte> Data => WasNever ? default : _state!.Look(_version);

    /// <summary>The bytes; another name of <see cref="Data"/>.</summary>
    /// <exception cref="ObjectDisposedException">The frame has ended.</exception>
    public ReadOnlySpan<byte> Span => Data;

    /// <summary>
    /// The bytes as memory that can be kept in fields and passed to asynchronous code. Its span throws
    /// <see cref="ObjectDisposedException"/> when the frame has ended.
    /// </summary>
    /// <remarks>Costs an allocation for the next frame of the reader, as the state that gave a memory out is not used again.</remarks>
    /// <exception cref="ObjectDisposedException">The frame has ended.</exception>
    public ReadOnlyMemory<byte> Memory => WasNever ? default : _state!.TakeMemory(_version);

    /// <summary>The first byte; null for a frame that never was valid.</summary>
    /// <exception cref="ObjectDisposedException">The frame has ended.</exception>
    public byte* Pointer => WasNever ? null : _state!.Pointer(_version);

    /// <summary>Bytes of data; 0 for a frame that never was valid.</summary>
    /// <exception cref="ObjectDisposedException">The frame has ended.</exception>
    /// <exception cref="OverflowException">The frame has 2 GiB or more: see <see cref="LongSize"/>.</exception>
    public int Size => checked((int)LongSize);

    /// <summary>Bytes of data, also of a frame of 2 GiB or more, whose bytes are reached by <see cref="Pointer"/> alone.</summary>
    /// <exception cref="ObjectDisposedException">The frame has ended.</exception>
    public long LongSize => WasNever ? 0 : _state!.Size(_version);

    /// <summary>The number that the writer gave the frame: 1, 2, 3 ...; in a duplex channel, that of the request.</summary>
    /// <exception cref="ObjectDisposedException">The frame has ended.</exception>
    public ulong Sequence => WasNever ? 0 : _state!.Sequence(_version);

    /// <summary>
    /// In a handler: whether the response to this request is not wanted any more, because the client cancelled it or left, its
    /// deadline is over, or the server was stopped. False for any other frame.
    /// </summary>
    /// <exception cref="ObjectDisposedException">The frame has ended.</exception>
    public bool IsCancelled => !WasNever && _state!.IsCancelled(_version);

    /// <summary>In a handler: how long the client still waits for the response; null if it set no limit, and for any other frame.</summary>
    /// <exception cref="ObjectDisposedException">The frame has ended.</exception>
    public TimeSpan? TimeLeft => WasNever ? null : _state!.TimeLeft(_version);

    /// <summary>
    /// Whether the bytes lie in another reader's buffer, which has lent them (<see cref="Writer.Forward"/>). They keep their place there: end the
    /// frame soon.
    /// </summary>
    /// <exception cref="ObjectDisposedException">The frame has ended.</exception>
    public bool IsShared => !WasNever && _state!.IsShared(_version);

    private bool WasNever => _state is null || EndOfStream;

    /// <summary>Whether two frames are copies of one.</summary>
    public static bool operator ==(Frame left, Frame right) => left.Equals(right);

    /// <summary>Whether two frames are not copies of one.</summary>
    public static bool operator !=(Frame left, Frame right) => !left.Equals(right);

    /// <summary>The bytes as one value, without a copy.</summary>
    /// <exception cref="ArgumentException">The frame has not exactly the size of <typeparamref name="T"/>.</exception>
    /// <exception cref="ObjectDisposedException">The frame has ended.</exception>
    public ref readonly T As<T>()
        where T : unmanaged
    {
        ReadOnlySpan<byte> bytes = Data;
        if (bytes.Length != sizeof(T))
        {
            throw new ArgumentException($"the frame has {bytes.Length} bytes, and {typeof(T).Name} has {sizeof(T)}");
        }
        return ref Unsafe.As<byte, T>(ref MemoryMarshal.GetReference(bytes));
    }

    /// <summary>The bytes as values in a row, without a copy.</summary>
    /// <exception cref="ArgumentException">The size of the frame is no multiple of that of <typeparamref name="T"/>.</exception>
    /// <exception cref="ObjectDisposedException">The frame has ended.</exception>
    public ReadOnlySpan<T> AsSpan<T>()
        where T : unmanaged
    {
        ReadOnlySpan<byte> bytes = Data;
        if (bytes.Length % sizeof(T) != 0)
        {
            throw new ArgumentException($"the frame has {bytes.Length} bytes, which is no multiple of the {sizeof(T)} of {typeof(T).Name}");
        }
        return MemoryMarshal.Cast<byte, T>(bytes);
    }

    /// <summary>
    /// A copy of the bytes; empty for a frame that never was valid. A new array of some megabytes costs milliseconds, because the runtime clears it:
    /// use <see cref="Data"/> or <see cref="CopyTo"/> on a hot path.
    /// </summary>
    /// <exception cref="ObjectDisposedException">The frame has ended.</exception>
    public byte[] ToArray()
    {
        byte[] copy = Data.ToArray();
        GC.KeepAlive(_state);
        return copy;
    }

    /// <summary>Copies the bytes to the start of <paramref name="target"/>.</summary>
    /// <exception cref="ArgumentException">The target is shorter than the frame.</exception>
    /// <exception cref="ObjectDisposedException">The frame has ended.</exception>
    public void CopyTo(Span<byte> target)
    {
        Data.CopyTo(target);
        GC.KeepAlive(_state);
    }

    /// <summary>
    /// The bytes, to be changed in place: of the request of a mutable server, where the changed bytes are the response, or of a reader's frame, whose
    /// bytes the writer does not use any more.
    /// </summary>
    /// <remarks>
    /// Where others may look at the bytes, because the frame is a shared one (<see cref="IsShared"/>) or has been passed on, the frame gets a private
    /// copy, which is passed on from then on. Spans that were taken before show the bytes as they were.
    /// </remarks>
    /// <exception cref="InvalidStateException">
    /// The frame is the request of an immutable server, or another thread is passing it on.
    /// </exception>
    /// <exception cref="ObjectDisposedException">The frame has ended.</exception>
    public Span<byte> GetMutableSpan() => WasNever ? default : _state!.Mutable(_version);

    /// <summary>
    /// A frame with these bytes that is valid until it is disposed, on any thread, and may outlive its reader. This frame ends. A request of a duplex
    /// server is copied, because it ends when its handler returns.
    /// </summary>
    /// <remarks>A frame that is kept takes up space in the buffer: dispose it.</remarks>
    /// <exception cref="ObjectDisposedException">The frame has ended.</exception>
    /// <example>
    /// <code>
    /// Frame kept = reader.ReadFrame().Retain();
    /// _ = Task.Run(() =>
    /// {
    ///     using (kept)
    ///     {
    ///         Store(kept.Data);
    ///     }
    /// });
    /// </code>
    /// </example>
    public Frame Retain() => WasNever ? this : _state!.Retain(_version);

    /// <summary>The owned frame that is passed on; a lent one ends.</summary>
    internal OwnedFrame ToForward(out long version, out bool wasLent)
    {
        if (WasNever)
        {
            throw new InvalidStateException("there is no frame: the read timed out, or the stream ended");
        }
        version = _version;
        return _state!.ToForward(ref version, out wasLent);
    }

    /// <summary>The owned frame that stays when it is passed on.</summary>
    internal OwnedFrame Owned(out long version)
    {
        version = _version;
        if (WasNever)
        {
            throw new InvalidStateException("there is no frame: the read timed out, or the stream ended");
        }
        return _state as OwnedFrame
            ?? throw new InvalidStateException("only a retained frame stays when it is passed on: Retain() it first");
    }

    /// <summary>Gives the bytes back to the writer. A second time does nothing.</summary>
    public void Dispose() => _state?.End(_version);

    /// <summary>Whether the other frame is a copy of this one.</summary>
    public bool Equals(Frame other) => ReferenceEquals(_state, other._state) && _version == other._version;

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is Frame other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(_state, _version);

    /// <inheritdoc/>
    public override string ToString() => IsValid ? $"frame {Sequence}, {LongSize} bytes" : EndOfStream ? "end of stream" : "no frame";
}
