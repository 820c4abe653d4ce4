using System.Runtime.CompilerServices;
using Microsoft.Extensions.Logging;
using ZeroBuffer.Native;

namespace ZeroBuffer;

/// <summary>The reading side of a buffer: creates it, owns it, removes it when it is disposed.</summary>
/// <remarks>
/// For one thread at a time: a second one gets <see cref="InvalidStateException"/>. <see cref="Interrupt"/>, <see cref="Dispose"/>
/// and the properties are for any thread at any time. Calls are cheapest as long as one thread alone uses the reader.
/// </remarks>
/// <example>
/// <code>
/// using var reader = new Reader("camera");
/// foreach (Frame frame in reader.Frames())
/// {
///     Show(frame.Data);
/// }
/// </code>
/// </example>
public sealed unsafe partial class Reader : IDisposable
{
    private readonly ReaderHandle _handle;
    private LentFrame _state;
    private WaitInterrupts _interrupts;

    /// <summary>Creates the buffer <paramref name="name"/> and becomes its reader, with all defaults.</summary>
    /// <inheritdoc cref="Reader(string, BufferConfig?)"/>
    public Reader(string name)
        : this(name, config: null)
    {
    }

    /// <summary>
    /// Creates the buffer <paramref name="name"/> and becomes its reader. First removes the files that a dead reader left under this name. Takes over
    /// a kept buffer, with the frames in it.
    /// </summary>
    /// <exception cref="InvalidNameException">The name cannot be used.</exception>
    /// <exception cref="InvalidConfigException">The configuration cannot be used.</exception>
    /// <exception cref="ReaderAlreadyConnectedException">Another live reader has the name.</exception>
    /// <exception cref="OutOfSharedMemoryException">There is no room.</exception>
    /// <exception cref="PermissionDeniedException">The operating system refused access.</exception>
    public Reader(string name, BufferConfig? config)
    {
        _handle = ReaderHandle.Create(name, config);
        _state = new LentFrame(_handle);
    }

    /// <summary>
    /// As <see cref="Reader(string, BufferConfig?)"/>; frames may be lent (<see cref="Writer.Forward"/>) if <paramref name="config"/> or
    /// <paramref name="allowPayloadSharing"/> says so.
    /// </summary>
    /// <inheritdoc cref="Reader(string, BufferConfig?)"/>
    public Reader(string name, BufferConfig? config, bool allowPayloadSharing)
        : this(name, allowPayloadSharing ? (config ?? new BufferConfig()).Sharing() : config)
    {
    }

    /// <summary>As <see cref="Reader(string, BufferConfig?)"/>; what the library has to say goes to the logger from now on.</summary>
    /// <remarks>The library's messages, about clean-up and repair, go to one logger for the whole process: the last one given.</remarks>
    /// <inheritdoc cref="Reader(string, BufferConfig?)"/>
    public Reader(string name, BufferConfig? config, ILogger<Reader> logger)
    {
        LibraryLog.SendTo(logger);
        _handle = ReaderHandle.Create(name, config);
        _state = new LentFrame(_handle);
    }

    /// <summary>The buffer's name.</summary>
    public string Name => _handle.Name;

    /// <summary>Frames read so far; 0 when the reader has been disposed.</summary>
    public ulong FramesRead => Count(&Api.zb_reader_frames_read);

    /// <summary>Bytes of data, without headers, read so far; 0 when the reader has been disposed.</summary>
    public ulong BytesRead => Count(&Api.zb_reader_bytes_read);

    /// <summary>Waits up to 5 s for the next frame. See <see cref="ReadFrame(TimeSpan, CancellationToken)"/>.</summary>
    /// <inheritdoc cref="ReadFrame(TimeSpan, CancellationToken)"/>
    public Frame ReadFrame() => TryTake(out Frame frame) ? frame : Read(Milliseconds.Default, CancellationToken.None);

    /// <summary>Waits for the next frame. See <see cref="ReadFrame(TimeSpan, CancellationToken)"/>.</summary>
    /// <inheritdoc cref="ReadFrame(TimeSpan, CancellationToken)"/>
    public Frame ReadFrame(TimeSpan timeout) => Milliseconds.IsUsual(timeout) && TryTake(out Frame frame)
        ? frame
        : Read(Milliseconds.From(timeout), CancellationToken.None);

    /// <summary>Waits for the next frame without limit. See <see cref="ReadFrame(TimeSpan, CancellationToken)"/>.</summary>
    /// <inheritdoc cref="ReadFrame(TimeSpan, CancellationToken)"/>
    public Frame ReadFrame(CancellationToken cancellationToken) => ReadCancellable(Milliseconds.Infinite, cancellationToken);

    /// <summary>
    /// Waits for the next frame, and ends the one before it. The result is invalid when the time is over, and invalid with
    /// <see cref="Frame.EndOfStream"/>, once, when the writer closed and everything that it wrote has been read.
    /// </summary>
    /// <param name="timeout">Zero polls once, <see cref="Timeout.InfiniteTimeSpan"/> waits without limit.</param>
    /// <param name="cancellationToken">Ends the wait. A frame that is there is returned even if the token is cancelled.</param>
    /// <exception cref="WriterDeadException">The writer died; everything that it had committed has been delivered. Thrown once.</exception>
    /// <exception cref="SequenceErrorException">A frame is missing. Dispose the reader and create the buffer again.</exception>
    /// <exception cref="CorruptBufferException">The shared memory holds values that cannot be true.</exception>
    /// <exception cref="InterruptedException"><see cref="Interrupt"/> ended the wait.</exception>
    /// <exception cref="OperationCanceledException">The token ended the wait.</exception>
    /// <exception cref="ClosedException">The reader has been disposed.</exception>
    /// <exception cref="InvalidStateException">Another thread is using the reader.</exception>
    public Frame ReadFrame(TimeSpan timeout, CancellationToken cancellationToken) =>
        ReadCancellable(Milliseconds.From(timeout), cancellationToken);

    /// <summary>The next frame if there is one now. Ends the one before it.</summary>
    /// <returns>False if there is none, or the stream has ended (<see cref="Frame.EndOfStream"/>).</returns>
    /// <inheritdoc cref="ReadFrame(TimeSpan, CancellationToken)"/>
    public bool TryReadFrame(out Frame frame) => TryTake(out frame) || TryReadOnce(out frame);

    [MethodImpl(MethodImplOptions.NoInlining)]
    private bool TryReadOnce(out Frame frame)
    {
        int status = ReadOnce(0, out frame, out void* error);
        if (status == Errors.Ok)
        {
            return true;
        }
        if (status == Errors.Interrupted && !_handle.IsClosed)
        {
            // For a call that may block, which this one is not.
            Api.zb_error_free(error);
            if (_interrupts.IsAsked)
            {
                SendInterrupt();
            }
            return false;
        }
        frame = Vain(status, error);
        return false;
    }

    /// <summary>
    /// The frames one after the other, each valid until the next step, until the writer closes. Waits for each without limit.
    /// </summary>
    /// <inheritdoc cref="ReadFrame(TimeSpan, CancellationToken)"/>
    public IEnumerable<Frame> Frames(CancellationToken cancellationToken = default)
    {
        while (true)
        {
            Frame frame = ReadFrame(cancellationToken);
            if (!frame.IsValid)
            {
                yield break;
            }
            yield return frame;
        }
    }

    /// <summary>Whether a writer lives, or frames that one committed are still unread. From any thread.</summary>
    /// <exception cref="ClosedException">The reader has been disposed.</exception>
    public bool IsWriterConnected()
    {
        byte connected = 0;
        void* error = null;
        _handle.EnterAsGuestOrThrow();
        int status = Api.zb_reader_is_writer_connected(_handle.Pointer, &connected, &error);
        _handle.LeaveAsGuest();
        Errors.ThrowIfFailed(status, error);
        return connected != 0;
    }

    /// <summary>Waits up to so many milliseconds for a writer; -1 waits without limit.</summary>
    /// <inheritdoc cref="IsWriterConnected(TimeSpan, CancellationToken)"/>
    public bool IsWriterConnected(int timeoutMs)
    {
        ArgumentOutOfRange.ThrowIfBelowInfinite(timeoutMs);
        return WaitForWriter(timeoutMs, CancellationToken.None);
    }

    /// <summary>Waits for a writer.</summary>
    /// <inheritdoc cref="IsWriterConnected(TimeSpan, CancellationToken)"/>
    public bool IsWriterConnected(TimeSpan timeout) => WaitForWriter(Milliseconds.From(timeout), CancellationToken.None);

    /// <summary>Waits for a writer; true as soon as one is there, or was and left frames. A wait ends the last frame.</summary>
    /// <exception cref="InterruptedException"><see cref="Interrupt"/> ended the wait.</exception>
    /// <exception cref="OperationCanceledException">The token ended the wait.</exception>
    /// <exception cref="BufferNotFoundException">Another process removed the buffer's files.</exception>
    /// <exception cref="ClosedException">The reader has been disposed.</exception>
    /// <exception cref="InvalidStateException">Another thread is using the reader.</exception>
    public bool IsWriterConnected(TimeSpan timeout, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        using CancellationTokenRegistration registration = InterruptOn(cancellationToken);
        return WaitForWriter(Milliseconds.From(timeout), cancellationToken);
    }

    /// <summary>What the reader has done so far, and what it holds. From any thread.</summary>
    /// <exception cref="ClosedException">The reader has been disposed.</exception>
    public ReaderStats GetStats()
    {
        NativeReaderStats stats = new() { Size = (nuint)sizeof(NativeReaderStats) };
        void* error = null;
        _handle.EnterAsGuestOrThrow();
        int status = Api.zb_reader_get_stats(_handle.Pointer, &stats, &error);
        _handle.LeaveAsGuest();
        Errors.ThrowIfFailed(status, error);
        ulong? oldest = stats.FramesHeld == 0 ? null : stats.OldestHeld;
        return new(stats.FramesRead, stats.BytesRead, stats.Waits, stats.FramesHeld, stats.BytesHeld, oldest)
        {
            FramesLent = stats.FramesLent,
            FramesShared = stats.FramesShared,
            BytesShared = stats.BytesShared,
        };
    }

    /// <summary>
    /// How many bytes of the buffer this process has mapped by huge pages now: what <see cref="BufferConfig.HugePages"/> got. It reads a list of all
    /// mappings of the process.
    /// </summary>
    /// <exception cref="SystemErrorException">The system does not tell.</exception>
    /// <exception cref="ClosedException">The reader has been disposed.</exception>
    /// <exception cref="InvalidStateException">Another thread is using the reader.</exception>
    public ulong GetHugePageBytes()
    {
        bool owner = _handle.Enter();
        try
        {
            ulong bytes = 0;
            void* error = null;
            Errors.ThrowIfFailed(Api.zb_reader_get_huge_page_bytes(_handle.Pointer, &bytes, &error), error);
            return bytes;
        }
        finally
        {
            _handle.Leave(owner);
        }
    }

    /// <summary>The metadata that the writer set; empty if it has set none yet.</summary>
    /// <exception cref="CorruptBufferException">The shared memory holds values that cannot be true.</exception>
    /// <exception cref="ClosedException">The reader has been disposed.</exception>
    /// <exception cref="InvalidStateException">Another thread is using the reader.</exception>
    public ReadOnlySpan<byte> GetMetadata()
    {
        bool owner = _handle.Enter();
        try
        {
            nuint size = 0;
            void* error = null;
            Errors.ThrowIfFailed(Api.zb_reader_get_metadata(_handle.Pointer, null, 0, &size, &error), error);
            byte[] metadata = new byte[size];
            fixed (byte* target = metadata)
            {
                // Metadata is written once: it has this size for good.
                Errors.ThrowIfFailed(Api.zb_reader_get_metadata(_handle.Pointer, target, size, &size, &error), error);
            }
            return metadata;
        }
        finally
        {
            _handle.Leave(owner);
        }
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
    /// Closes the reader and removes the buffer; from any thread. A call that is blocked throws <see cref="ClosedException"/>. Frames
    /// that are still valid stay so until they are disposed.
    /// </summary>
    public void Dispose() => _handle.Close();

    /// <summary>As <see cref="Dispose"/>.</summary>
    public void Close() => Dispose();

    /// <summary>Makes a tee of the reader, which is closed afterwards, and returns its handle.</summary>
    internal void* HandOver()
    {
        void* tee = null;
        void* error = null;
        bool owner = _handle.Enter();
        Next();
        int status = Api.zb_tee_create(_handle.Pointer, &tee, &error);
        Volatile.Write(ref _handle.Lent, 0);
        _handle.Leave(owner);
        Errors.ThrowIfFailed(status, error);
        _handle.Close();
        return tee;
    }

    private Frame ReadCancellable(long timeoutMs, CancellationToken cancellationToken)
    {
        if (!cancellationToken.CanBeCanceled)
        {
            return TryTake(out Frame first) ? first : Read(timeoutMs, cancellationToken);
        }
        // A frame that is there needs no registration, which costs more than the read.
        return TryTake(out Frame taken) ? taken : ReadRegistered(timeoutMs, cancellationToken);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private Frame ReadRegistered(long timeoutMs, CancellationToken cancellationToken)
    {
        if (TryReadOnce(out Frame frame) || frame.EndOfStream)
        {
            return frame;
        }
        cancellationToken.ThrowIfCancellationRequested();
        using CancellationTokenRegistration registration = InterruptOn(cancellationToken);
        return Read(timeoutMs, cancellationToken);
    }

    // Not part of its callers, which would prepare for the call of the library even where none is made.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private Frame Read(long timeoutMs, CancellationToken cancellationToken, bool latest = false)
    {
        // Without a token, an unexpected interrupt is a late one of an earlier token, and there is at most one: the
        // clock, which costs a third of a read, is left alone.
        Deadline deadline = cancellationToken.CanBeCanceled ? new Deadline(timeoutMs) : default;
        while (true)
        {
            long left = cancellationToken.CanBeCanceled ? deadline.Left : timeoutMs;
            int status = ReadOnce(left, out Frame frame, out void* error, latest);
            if (status == Errors.Ok)
            {
                return frame;
            }
            if (status != Errors.Interrupted || _handle.IsClosed)
            {
                return Vain(status, error);
            }
            _interrupts.Judge(error, cancellationToken);
        }
    }

    /// <summary>Reads a frame that is there, if that is simple, without the detour of a call that may wait.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private bool TryTake(out Frame frame)
    {
        LentFrame state = _state;
        if (!state.MayTake || !_handle.TryEnterBriefly())
        {
            frame = default;
            return false;
        }
        bool isTaken = state.TryTake(out frame);
        _handle.Leave(asOwner: true);
        return isTaken;
    }

    private int ReadOnce(long timeoutMs, out Frame frame, out void* error, bool latest = false)
    {
        bool owner = _handle.Enter();
        int status = ReadInside(timeoutMs, out frame, out error, latest);
        _handle.Leave(owner);
        return status;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private int ReadInside(long timeoutMs, out Frame frame, out void* error, bool latest)
    {
        NativeFrameRef lent;
        void* failure = null;
        LentFrame state = Next();
        int status = latest
            ? Api.zb_reader_read_latest_frame_ref(_handle.Pointer, timeoutMs, &lent, &failure)
            : Api.zb_reader_read_frame_ref(_handle.Pointer, timeoutMs, &lent, &failure);
        if (status == Errors.Ok)
        {
            frame = state.Lend(lent);
        }
        else
        {
            frame = default;
            Volatile.Write(ref _handle.Lent, 0);
        }
        error = failure;
        return status;
    }

    /// <summary>The state for the next frame; ends the one before it, which the library gives back. To be called inside.</summary>
    private LentFrame Next()
    {
        LentFrame state = _state;
        state.EndByRead();
        if (!state.IsUsedUp)
        {
            return state;
        }
        state.EndCopy();
        return _state = new LentFrame(_handle);
    }

    /// <summary>What a read without a frame returns or throws.</summary>
    private Frame Vain(int status, void* error)
    {
        if (status == Errors.EndOfStream)
        {
            return Frame.End;
        }
        if (status is Errors.Interrupted or Errors.Closed && _handle.IsClosed)
        {
            Api.zb_error_free(error);
            _handle.ThrowClosed();
        }
        Errors.ThrowIfFailed(status, error);
        return default;
    }

    private bool WaitForWriter(long timeoutMs, CancellationToken cancellationToken)
    {
        if (IsWriterConnected())
        {
            return true;
        }
        var deadline = new Deadline(timeoutMs);
        while (true)
        {
            void* error = null;
            bool owner = _handle.Enter();
            Next();
            Volatile.Write(ref _handle.Lent, 0);
            int status = Api.zb_reader_wait_for_writer(_handle.Pointer, deadline.Left, &error);
            _handle.Leave(owner);
            if (status != Errors.Interrupted || _handle.IsClosed)
            {
                _ = Vain(status, error);
                return status == Errors.Ok;
            }
            _interrupts.Judge(error, cancellationToken);
        }
    }

    private CancellationTokenRegistration InterruptOn(CancellationToken cancellationToken) =>
        cancellationToken.UnsafeRegister(static reader => ((Reader)reader!).SendInterrupt(), this);

    private void SendInterrupt()
    {
        if (_handle.EnterAsGuest())
        {
            Api.zb_reader_interrupt(_handle.Pointer);
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
