using System.Runtime.InteropServices;
using Microsoft.Extensions.Logging;
using ZeroBuffer.Native;

namespace ZeroBuffer;

/// <summary>The writing side of a buffer that a reader has created.</summary>
/// <remarks>
/// For one thread at a time: a second one gets <see cref="InvalidStateException"/>. <see cref="Interrupt"/>, <see cref="Dispose"/>
/// and the properties are for any thread at any time. Calls are cheapest as long as one thread alone uses the writer.
/// </remarks>
/// <example>
/// <code>
/// using var writer = new Writer("camera");
/// writer.AcquireFrameBuffer(width * height * 3, out Span&lt;byte&gt; picture);
/// Draw(picture);
/// writer.CommitFrame();
/// </code>
/// </example>
public unsafe partial class Writer : IDisposable
{
    private static nuint WholeFrame => nuint.MaxValue;

    private readonly WriterHandle _handle;
    private WaitInterrupts _interrupts;

    /// <summary>Connects to the buffer <paramref name="name"/>, with all defaults.</summary>
    /// <inheritdoc cref="Writer(string, WriterOptions?)"/>
    public Writer(string name)
        : this(name, options: null)
    {
    }

    /// <summary>Connects to the buffer <paramref name="name"/>.</summary>
    /// <exception cref="BufferNotFoundException">No reader has created it, within the connect time-out.</exception>
    /// <exception cref="WriterAlreadyConnectedException">Another live writer is connected.</exception>
    /// <exception cref="ReaderDeadException">Its reader died.</exception>
    /// <exception cref="InvalidNameException">The name cannot be used.</exception>
    /// <exception cref="IncompatibleProtocolException">It speaks another version of the protocol.</exception>
    /// <exception cref="CorruptBufferException">It holds values that cannot be true.</exception>
    /// <exception cref="PermissionDeniedException">The operating system refused access.</exception>
    public Writer(string name, WriterOptions? options) => _handle = WriterHandle.Connect(name, options ?? new WriterOptions());

    /// <summary>As <see cref="Writer(string, WriterOptions?)"/>; what the library has to say goes to the logger from now on.</summary>
    /// <remarks>The library's messages, about clean-up and repair, go to one logger for the whole process: the last one given.</remarks>
    /// <inheritdoc cref="Writer(string, WriterOptions?)"/>
    public Writer(string name, WriterOptions? options, ILogger<Writer> logger)
    {
        LibraryLog.SendTo(logger);
        _handle = WriterHandle.Connect(name, options ?? new WriterOptions());
    }

    private protected Writer(WriterHandle handle) => _handle = handle;

    /// <summary>The buffer's name.</summary>
    public string Name => _handle.Name;

    /// <summary>
    /// How long a write waits for space: zero polls once, <see cref="Timeout.InfiniteTimeSpan"/> waits without limit. 5 s by default.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is negative, and not <see cref="Timeout.InfiniteTimeSpan"/>.</exception>
    /// <exception cref="ClosedException">The writer has been disposed.</exception>
    /// <exception cref="InvalidStateException">Another thread is using the writer, when it is set.</exception>
    public TimeSpan WriteTimeout
    {
        get
        {
            _handle.EnterAsGuestOrThrow();
            long timeout = Api.zb_writer_write_timeout(_handle.Pointer);
            _handle.LeaveAsGuest();
            return Milliseconds.ToTimeSpan(timeout);
        }

        set
        {
            void* error = null;
            long timeout = Milliseconds.From(value);
            bool owner = _handle.Enter();
            int status = Api.zb_writer_set_write_timeout(_handle.Pointer, timeout, &error);
            _handle.Leave(owner);
            Errors.ThrowIfFailed(status, error);
        }
    }

    /// <summary>The largest frame that the buffer can take, in bytes.</summary>
    /// <exception cref="ClosedException">The writer has been disposed.</exception>
    /// <exception cref="InvalidStateException">Another thread is using the writer.</exception>
    public long MaxFrameSize
    {
        get
        {
            nuint size = 0;
            void* error = null;
            bool owner = _handle.Enter();
            int status = Api.zb_writer_max_frame_size(_handle.Pointer, &size, &error);
            _handle.Leave(owner);
            Errors.ThrowIfFailed(status, error);
            return (long)size;
        }
    }

    /// <summary>Frames committed so far; 0 when the writer has been disposed.</summary>
    public ulong FramesWritten => Count(&Api.zb_writer_frames_written);

    /// <summary>Bytes of data, without headers, committed so far; 0 when the writer has been disposed.</summary>
    public ulong BytesWritten => Count(&Api.zb_writer_bytes_written);

    /// <summary>Copies the bytes into the buffer as one frame, waiting for space up to <see cref="WriteTimeout"/>.</summary>
    /// <returns>The frame's sequence number.</returns>
    /// <exception cref="InvalidFrameSizeException">There are 0 bytes.</exception>
    /// <exception cref="FrameTooLargeException">The bytes and a 16-byte header are more than the payload.</exception>
    /// <exception cref="BufferFullException">No space became free in time.</exception>
    /// <exception cref="ReaderDeadException">The reader died or closed the buffer.</exception>
    /// <exception cref="InvalidStateException">A frame is acquired, or another thread is using the writer.</exception>
    /// <exception cref="InterruptedException"><see cref="Interrupt"/> ended the wait.</exception>
    /// <exception cref="OutOfSharedMemoryException">The shared-memory file system is full.</exception>
    /// <exception cref="CorruptBufferException">The shared memory holds values that cannot be true.</exception>
    /// <exception cref="ClosedException">The writer has been disposed.</exception>
    public ulong WriteFrame(ReadOnlySpan<byte> data)
    {
        ulong sequence;
        void* error = null;
        int status;
        bool owner = _handle.Enter();
        fixed (byte* bytes = &MemoryMarshal.GetReference(data))
        {
            status = Api.zb_writer_write_frame(_handle.Pointer, Present(bytes), (nuint)data.Length, &sequence, &error);
        }
        _handle.Leave(owner);
        return status == Errors.Ok ? sequence : WriteAgain(data, status, error);
    }

    /// <summary>Copies the array into the buffer as one frame.</summary>
    /// <inheritdoc cref="WriteFrame(ReadOnlySpan{byte})"/>
    public ulong WriteFrame(byte[] data)
    {
        ArgumentNullException.ThrowIfNull(data);
        return WriteFrame(new ReadOnlySpan<byte>(data));
    }

    /// <summary>Copies the bytes into the buffer as one frame if there is space now.</summary>
    /// <returns>False if there is no space.</returns>
    /// <inheritdoc cref="WriteFrame(ReadOnlySpan{byte})"/>
    public bool TryWriteFrame(ReadOnlySpan<byte> data) => TryWriteFrame(data, out _);

    /// <summary>Copies the bytes into the buffer as one frame if there is space now, and tells its sequence number.</summary>
    /// <inheritdoc cref="TryWriteFrame(ReadOnlySpan{byte})"/>
    public bool TryWriteFrame(ReadOnlySpan<byte> data, out ulong sequence)
    {
        ulong number = 0;
        void* error = null;
        int status;
        bool owner = _handle.Enter();
        fixed (byte* bytes = &MemoryMarshal.GetReference(data))
        {
            status = Api.zb_writer_try_write_frame(_handle.Pointer, Present(bytes), (nuint)data.Length, &number, &error);
        }
        _handle.Leave(owner);
        sequence = number;
        ThrowIfFailed(status, error);
        return status == Errors.Ok;
    }

    /// <summary>
    /// Acquires bytes of the buffer, to be filled in place, waiting for space up to <see cref="WriteTimeout"/>. Call <see cref="CommitFrame()"/> or
    /// <see cref="DiscardFrame"/> afterwards. These calls, and disposing, end the right to write there.
    /// </summary>
    /// <exception cref="InvalidStateException">A frame is acquired already, or another thread is using the writer.</exception>
    /// <inheritdoc cref="WriteFrame(ReadOnlySpan{byte})"/>
    public void AcquireFrameBuffer(int size, out Span<byte> buffer)
    {
        ArgumentOutOfRange.ThrowIfNegative(size);
        byte* data = null;
        void* error = null;
        bool owner = _handle.Enter();
        int status = Api.zb_writer_acquire_frame_buffer(_handle.Pointer, (nuint)size, &data, &error);
        _handle.NoteAcquired(status);
        _handle.Leave(owner);
        if (status != Errors.Ok)
        {
            data = AcquireAgain(size, status, error);
        }
        buffer = new Span<byte>(data, size);
    }

    /// <summary>Acquires bytes of the buffer, to be filled in place, if there is space now.</summary>
    /// <returns>False if there is no space.</returns>
    /// <inheritdoc cref="AcquireFrameBuffer(int, out Span{byte})"/>
    public bool TryAcquireFrameBuffer(int size, out Span<byte> buffer)
    {
        ArgumentOutOfRange.ThrowIfNegative(size);
        byte* data = null;
        void* error = null;
        bool owner = _handle.Enter();
        int status = Api.zb_writer_try_acquire_frame_buffer(_handle.Pointer, (nuint)size, &data, &error);
        _handle.NoteAcquired(status);
        _handle.Leave(owner);
        ThrowIfFailed(status, error);
        buffer = status == Errors.Ok ? new Span<byte>(data, size) : default;
        return status == Errors.Ok;
    }

    /// <summary>Commits the frame acquired, with all its bytes.</summary>
    /// <returns>Its sequence number.</returns>
    /// <exception cref="InvalidStateException">Nothing is acquired, or another thread is using the writer.</exception>
    /// <exception cref="CorruptBufferException">The shared memory holds values that cannot be true.</exception>
    /// <exception cref="ClosedException">The writer has been disposed.</exception>
    public ulong CommitFrame() => Commit(WholeFrame);

    /// <summary>Commits the first bytes of the frame acquired.</summary>
    /// <exception cref="InvalidFrameSizeException">The size is 0, or more than was acquired; the frame stays acquired.</exception>
    /// <inheritdoc cref="CommitFrame()"/>
    public ulong CommitFrame(int size)
    {
        ArgumentOutOfRange.ThrowIfNegative(size);
        return Commit((nuint)size);
    }

    /// <summary>Discards the frame acquired, if any. The reader never learns of it.</summary>
    /// <exception cref="ClosedException">The writer has been disposed.</exception>
    /// <exception cref="InvalidStateException">Another thread is using the writer.</exception>
    public void DiscardFrame()
    {
        void* error = null;
        bool owner = _handle.Enter();
        int status = Api.zb_writer_discard_frame(_handle.Pointer, &error);
        _handle.NoteReturned(status);
        _handle.Leave(owner);
        ThrowIfFailed(status, error);
    }

    /// <summary>Sets the buffer's metadata: at most once per buffer, and at most its metadata size less 8 bytes.</summary>
    /// <exception cref="MetadataAlreadyWrittenException">It has been set.</exception>
    /// <exception cref="MetadataTooLargeException">It does not fit.</exception>
    /// <exception cref="ClosedException">The writer has been disposed.</exception>
    /// <exception cref="InvalidStateException">Another thread is using the writer.</exception>
    public void SetMetadata(ReadOnlySpan<byte> metadata)
    {
        void* error = null;
        int status;
        bool owner = _handle.Enter();
        fixed (byte* bytes = &MemoryMarshal.GetReference(metadata))
        {
            status = Api.zb_writer_set_metadata(_handle.Pointer, Present(bytes), (nuint)metadata.Length, &error);
        }
        _handle.Leave(owner);
        ThrowIfFailed(status, error);
    }

    /// <summary>Whether the reader lives. From any thread.</summary>
    /// <exception cref="ClosedException">The writer has been disposed.</exception>
    public bool IsReaderConnected()
    {
        byte connected = 0;
        void* error = null;
        _handle.EnterAsGuestOrThrow();
        int status = Api.zb_writer_is_reader_connected(_handle.Pointer, &connected, &error);
        _handle.LeaveAsGuest();
        ThrowIfFailed(status, error);
        return connected != 0;
    }

    /// <summary>What the writer has done so far. From any thread.</summary>
    /// <exception cref="ClosedException">The writer has been disposed.</exception>
    public WriterStats GetStats()
    {
        NativeWriterStats stats = new() { Size = (nuint)sizeof(NativeWriterStats) };
        void* error = null;
        _handle.EnterAsGuestOrThrow();
        int status = Api.zb_writer_get_stats(_handle.Pointer, &stats, &error);
        _handle.LeaveAsGuest();
        ThrowIfFailed(status, error);
        return new(stats.FramesWritten, stats.BytesWritten, stats.Waits, stats.Full)
        {
            FramesShared = stats.FramesShared,
            FramesCopied = stats.FramesCopied,
        };
    }

    /// <summary>
    /// Makes the call that is blocked now, or else the next one that may block, throw <see cref="InterruptedException"/> once.
    /// From any thread.
    /// </summary>
    public void Interrupt()
    {
        _interrupts.Ask();
        SendInterrupt();
    }

    /// <summary>
    /// Closes the writer: the reader gets all frames, then <see cref="Frame.EndOfStream"/> at once. From any thread; a call that is
    /// blocked throws <see cref="ClosedException"/>.
    /// </summary>
#pragma warning disable CA1816 // No type outside this package derives from it with a finaliser.
    public void Dispose() => _handle.Close();
#pragma warning restore CA1816

    /// <summary>As <see cref="Dispose"/>.</summary>
    public void Close() => Dispose();

    /// <summary>The C ABI takes no NULL, even for 0 bytes.</summary>
    private static byte* Present(byte* bytes) => bytes == null ? (byte*)1 : bytes;

    private ulong Commit(nuint size)
    {
        ulong sequence;
        void* error = null;
        bool owner = _handle.Enter();
        int status = Api.zb_writer_commit_frame(_handle.Pointer, size, &sequence, &error);
        _handle.NoteReturned(status);
        _handle.Leave(owner);
        ThrowIfFailed(status, error);
        return sequence;
    }

    /// <summary>Throws, unless the failure is an unexpected interrupt.</summary>
    private void JudgeFailure(int status, void* error, CancellationToken cancellationToken)
    {
        if (status != Errors.Interrupted || _handle.IsClosed)
        {
            ThrowIfFailed(status, error);
        }
        else
        {
            _interrupts.Judge(error, cancellationToken);
        }
    }

    private void ThrowIfFailed(int status, void* error)
    {
        if (status is Errors.Interrupted or Errors.Closed && _handle.IsClosed)
        {
            Api.zb_error_free(error);
            _handle.ThrowClosed();
        }
        Errors.ThrowIfFailed(status, error);
    }

    private void SendInterrupt()
    {
        if (_handle.EnterAsGuest())
        {
            Api.zb_writer_interrupt(_handle.Pointer);
            _handle.LeaveAsGuest();
        }
    }

    private ulong Count(delegate*<void*, ulong> counter)
    {
        if (!_handle.EnterAsGuest())
        {
            return 0;
        }
        ulong count = counter(_handle.Pointer);
        _handle.LeaveAsGuest();
        return count;
    }
}
