using System.Runtime.InteropServices;
using ZeroBuffer.Native;

namespace ZeroBuffer;

/// <content>Frames of values, and frames that serialisers write.</content>
public unsafe partial class Writer
{
    /// <summary>Copies one value into the buffer as a frame; <see cref="Frame.As{T}"/> reads it.</summary>
    /// <inheritdoc cref="WriteFrame(ReadOnlySpan{byte})"/>
    public ulong WriteFrame<T>(in T value)
        where T : unmanaged
    {
        fixed (T* bytes = &value)
        {
            return WriteFrame(new ReadOnlySpan<byte>(bytes, sizeof(T)));
        }
    }

    /// <summary>Copies values into the buffer as one frame; <see cref="Frame.AsSpan{T}"/> reads them.</summary>
    /// <inheritdoc cref="WriteFrame(ReadOnlySpan{byte})"/>
    public ulong WriteFrame<T>(ReadOnlySpan<T> values)
        where T : unmanaged => WriteFrame(MemoryMarshal.AsBytes(values));

    /// <summary>Acquires room for values, to be filled in place.</summary>
    /// <inheritdoc cref="AcquireFrameBuffer(int, out Span{byte})"/>
    public void AcquireFrameBuffer<T>(int count, out Span<T> values)
        where T : unmanaged
    {
        ArgumentOutOfRange.ThrowIfNegative(count);
        AcquireFrameBuffer(checked(count * sizeof(T)), out Span<byte> bytes);
        values = MemoryMarshal.Cast<byte, T>(bytes);
    }

    /// <summary>
    /// Begins a frame that is written piece by piece, in place, such as by a serialiser. <see cref="FrameBuilder.Commit"/> sends it;
    /// disposing it before discards it.
    /// </summary>
    /// <param name="sizeHint">Bytes to begin with. A frame that grows beyond them is copied once for each doubling.</param>
    /// <inheritdoc cref="AcquireFrameBuffer(int, out Span{byte})"/>
    /// <example>
    /// <code>
    /// using FrameBuilder frame = writer.BeginFrame();
    /// using var json = new Utf8JsonWriter(frame);
    /// JsonSerializer.Serialize(json, value);
    /// frame.Commit();
    /// </code>
    /// </example>
    public FrameBuilder BeginFrame(int sizeHint = 4096) => new(this, sizeHint);
}
