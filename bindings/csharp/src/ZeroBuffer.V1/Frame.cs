extern alias v2;

using V2 = v2::ZeroBuffer;

namespace ZeroBuffer;

/// <summary>A frame: bytes in shared memory. Valid until it is disposed; the request of a server, until its handler returns.</summary>
public readonly struct Frame : IDisposable
{
    private readonly Holder _holder;

    internal Frame(V2.Frame frame) => _holder = new Holder(frame);

    /// <summary>A frame that is not there: what a read returns when no frame came in time.</summary>
    public static Frame Invalid => default;

    /// <summary>Whether there is a frame, and it has not been disposed.</summary>
    public bool IsValid => Version2.IsValid;

    /// <summary>The bytes; empty for a frame that never was valid.</summary>
    /// <exception cref="ObjectDisposedException">The frame has been disposed.</exception>
    public ReadOnlySpan<byte> Span => Version2.Data;

    /// <summary>Bytes of data.</summary>
    /// <exception cref="ObjectDisposedException">The frame has been disposed.</exception>
    public int Size => Version2.Size;

    /// <summary>The number that the writer gave the frame; in a duplex channel, that of the request.</summary>
    /// <exception cref="ObjectDisposedException">The frame has been disposed.</exception>
    public ulong Sequence => Version2.Sequence;

    /// <summary>The first byte; null for a frame that never was valid.</summary>
    /// <exception cref="ObjectDisposedException">The frame has been disposed.</exception>
    public unsafe byte* Pointer => Version2.Pointer;

    /// <summary>A copy of the bytes.</summary>
    /// <exception cref="ObjectDisposedException">The frame has been disposed.</exception>
    public byte[] ToArray() => Version2.ToArray();

    /// <summary>The bytes, to be changed where they lie. This reader alone still looks at them.</summary>
    /// <exception cref="ObjectDisposedException">The frame has been disposed.</exception>
    // Not the span of version 2, which the request of an immutable server does not have.
    public unsafe Span<byte> GetMutableSpan() => new(Version2.Pointer, Version2.Size);

    private V2.Frame Version2 => _holder.Frame;

    /// <summary>Gives the bytes back to the writer. A second time does nothing.</summary>
    public void Dispose() => Version2.Dispose();

    /// <summary>
    /// The frame of version 2. Runtimes before .NET 10 load no struct with a field whose type has the struct's own name, be it of another assembly:
    /// they take it for a field of itself.
    /// </summary>
    private readonly struct Holder
    {
        internal Holder(V2.Frame frame) => Frame = frame;

        internal V2.Frame Frame { get; }
    }
}

/// <summary>The bytes of a frame, for the time of a call.</summary>
public readonly ref struct FrameRef
{
    internal FrameRef(ReadOnlySpan<byte> data, ulong sequence)
    {
        Data = data;
        Sequence = sequence;
    }

    /// <summary>A frame that is not there.</summary>
    public static FrameRef Invalid => default;

    /// <summary>The bytes.</summary>
    public ReadOnlySpan<byte> Data { get; }

    /// <summary>The bytes; another name of <see cref="Data"/>.</summary>
    public ReadOnlySpan<byte> Span => Data;

    /// <summary>Bytes of data.</summary>
    public int Size => Data.Length;

    /// <summary>The frame's number; 0 of one that is not there.</summary>
    public ulong Sequence { get; }

    /// <summary>Whether there is a frame.</summary>
    public bool IsValid => Sequence != 0;

    /// <summary>A copy of the bytes.</summary>
    public byte[] ToArray() => Data.ToArray();
}

/// <summary>Takes a frame for the time of the call.</summary>
public delegate void FrameCallback(FrameRef frame);

/// <summary>Conversions of frames.</summary>
public static class FrameExtensions
{
    /// <summary>The bytes of a frame; do not use them after the frame has been disposed.</summary>
    public static FrameRef ToFrameRef(this Frame frame) => frame.IsValid ? new FrameRef(frame.Span, frame.Sequence) : FrameRef.Invalid;
}
