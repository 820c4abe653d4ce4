extern alias v2;

using Microsoft.Extensions.Logging;
using V2 = v2::ZeroBuffer;

namespace ZeroBuffer;

/// <summary>The writing side of a buffer; in a server's handler, the way to answer.</summary>
public sealed class Writer : IDisposable
{
    private readonly WriterTarget _target;
    private byte[]? _metadata;

    /// <summary>Connects to the buffer.</summary>
    /// <exception cref="ArgumentException">The name is empty or cannot be used.</exception>
    /// <exception cref="BufferNotFoundException">No reader has created it.</exception>
    /// <exception cref="WriterAlreadyConnectedException">Another live writer is connected.</exception>
    public Writer(string name, ILogger<Writer>? logger = null)
    {
        Errors.CheckName(name, nameof(name));
        V2.Native.LibraryLog.SendToIfGiven(logger);
        try
        {
            _target = new BufferTarget(new V2.Writer(name));
        }
        catch (V2.ZeroBufferException error)
        {
            throw Errors.ToV1(error);
        }
    }

    internal Writer(WriterTarget target) => _target = target;

    /// <summary>The buffer's name.</summary>
    public string Name => _target.Name;

    /// <summary>How long a write waits for space. 5 s by default.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is not above zero.</exception>
    public TimeSpan WriteTimeout
    {
        get => Try(static target => target.WriteTimeout);

        set
        {
            if (value <= TimeSpan.Zero)
            {
                throw new ArgumentOutOfRangeException(nameof(value), value, "A write time-out is above zero");
            }
            Try(target => target.WriteTimeout = value);
        }
    }

    /// <summary>Copies the bytes into the buffer as one frame, waiting for space up to <see cref="WriteTimeout"/>.</summary>
    /// <returns>The frame's sequence number.</returns>
    /// <exception cref="FrameTooLargeException">The bytes and a 16-byte header are more than the payload.</exception>
    /// <exception cref="BufferFullException">No space became free in time.</exception>
    /// <exception cref="ReaderDeadException">The reader died or closed the buffer.</exception>
    public ulong WriteFrame(ReadOnlySpan<byte> data)
    {
        try
        {
            return _target.Write(data);
        }
        catch (V2.ZeroBufferException error)
        {
            throw Errors.ToV1(error);
        }
    }

    /// <summary>Acquires bytes of the buffer, to be filled in place and sent by <see cref="CommitFrame"/>.</summary>
    /// <inheritdoc cref="WriteFrame"/>
    public Span<byte> GetFrameBuffer(int size, out ulong sequenceNumber)
    {
        try
        {
            return _target.Acquire(size, out sequenceNumber);
        }
        catch (V2.ZeroBufferException error)
        {
            throw Errors.ToV1(error);
        }
    }

    /// <summary>Sends the frame acquired.</summary>
    /// <returns>The frame's sequence number.</returns>
    /// <exception cref="InvalidOperationException">No frame is acquired.</exception>
    public ulong CommitFrame() => Try(static target => target.Commit());

    /// <summary>Sets the buffer's metadata, once.</summary>
    /// <exception cref="InvalidOperationException">Metadata already written.</exception>
    /// <exception cref="ArgumentException">Metadata too large for buffer.</exception>
    public void SetMetadata(ReadOnlySpan<byte> data)
    {
        try
        {
            _target.SetMetadata(data);
        }
        catch (V2.ZeroBufferException error)
        {
            throw Errors.ToV1(error);
        }
    }

    /// <summary>Bytes for the metadata, to be filled and sent by <see cref="CommitMetadata"/>.</summary>
    public Span<byte> GetMetadataBuffer(int size) => _metadata = new byte[size];

    /// <summary>Sets the metadata that <see cref="GetMetadataBuffer"/> was filled with.</summary>
    /// <exception cref="InvalidOperationException">There is none, or metadata already written.</exception>
    /// <exception cref="ArgumentException">Metadata too large for buffer.</exception>
    public void CommitMetadata()
    {
        SetMetadata(_metadata ?? throw new InvalidOperationException("GetMetadataBuffer comes first"));
        _metadata = null;
    }

    /// <summary>Whether the reader lives.</summary>
    public bool IsReaderConnected() => Try(static target => target.IsReaderConnected);

    /// <summary>Closes the writer. The server's writer, which a handler gets, stays open.</summary>
    public void Dispose() => _target.Dispose();

    private T Try<T>(Func<WriterTarget, T> call)
    {
        try
        {
            return call(_target);
        }
        catch (V2.ZeroBufferException error)
        {
            throw Errors.ToV1(error);
        }
    }
}
