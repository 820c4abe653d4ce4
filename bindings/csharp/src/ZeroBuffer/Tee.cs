using ZeroBuffer.Native;

namespace ZeroBuffer;

/// <summary>Passes the frames of one reader on to any number of outputs.</summary>
/// <remarks>
/// <para>A <i>block</i> output gets every frame: while it is full, the tee waits, and so does the source in the end. It is lent the source's
/// bytes where its writer requests sharing and both readers allow it. A <i>drop</i> output has at most so many frames that its reader has
/// not given back; what comes then is dropped, and counted. The tee never waits for it. Two and more such outputs are lent one copy,
/// where they request and allow sharing. Block outputs are served first. An output whose reader dies or closes ends: it gets nothing more,
/// and the others go on.</para>
/// <para>For one thread at a time: a second one gets <see cref="InvalidStateException"/>. <see cref="Interrupt"/>, <see cref="Dispose"/> and
/// <see cref="Name"/> are for any thread at any time.</para>
/// </remarks>
/// <example>
/// <code>
/// using var tee = new Tee(new Reader("camera", null, allowPayloadSharing: true));
/// tee.AddBlockOutput(new Writer("archive", requestPayloadSharing: true));
/// tee.AddDropOutput(new Writer("display", requestPayloadSharing: true));
/// tee.Run();
/// </code>
/// </example>
public sealed unsafe class Tee : IDisposable
{
    /// <summary>Frames that a drop output usually has at most: one that its viewer looks at, and one that comes next.</summary>
    public const int DropFrames = 2;

    private readonly TeeHandle _handle;
    private OwnedFrame _place = new();
    private WaitInterrupts _interrupts;

    /// <summary>Makes a tee without outputs, which takes the reader over: that is closed afterwards.</summary>
    /// <exception cref="ClosedException">The reader has been disposed.</exception>
    /// <exception cref="InvalidStateException">Another thread is using the reader.</exception>
    public Tee(Reader reader)
    {
        ArgumentNullException.ThrowIfNull(reader);
        _handle = new TeeHandle(reader.HandOver(), reader.Name);
    }

    /// <summary>Name of the buffer that it reads.</summary>
    public string Name => _handle.Name;

    /// <summary>The outputs, also those that have ended, in the order in which they were added.</summary>
    /// <exception cref="ClosedException">The tee has been disposed.</exception>
    /// <exception cref="InvalidStateException">Another thread is using the tee.</exception>
    public IReadOnlyList<TeeOutput> GetOutputs()
    {
        bool owner = _handle.Enter();
        try
        {
            nuint count = 0;
            void* error = null;
            Errors.ThrowIfFailed(Api.zb_tee_outputs(_handle.Pointer, null, 0, &count, &error), error);
            var raw = new NativeTeeOutput[count];
            fixed (NativeTeeOutput* first = raw)
            {
                Errors.ThrowIfFailed(Api.zb_tee_outputs(_handle.Pointer, first, count, &count, &error), error);
                var outputs = new TeeOutput[count];
                for (int index = 0; index < outputs.Length; index++)
                {
                    NativeTeeOutput* one = first + index;
                    outputs[index] = new TeeOutput(
                        Text.FromUtf8(one->Name),
                        one->Bound == 0 ? null : (long)one->Bound,
                        one->FramesShared,
                        one->FramesCopied,
                        one->FramesDropped,
                        one->Ended == Errors.Ok ? null : (ErrorKind)one->Ended);
                }
                return outputs;
            }
        }
        finally
        {
            _handle.Leave(owner);
        }
    }

    /// <summary>
    /// Adds an output that gets every frame from the next one on, and takes the writer over: that is closed afterwards. How long the tee waits for
    /// space in it is its <see cref="Writer.WriteTimeout"/>. It takes the place of an output of that name that has ended.
    /// </summary>
    /// <exception cref="ClosedException">The tee or the writer has been disposed.</exception>
    /// <exception cref="InvalidStateException">Another thread is using one of them.</exception>
    public void AddBlockOutput(Writer writer) => Add(writer, 0);

    /// <summary>Adds a drop output with <see cref="DropFrames"/> frames.</summary>
    /// <inheritdoc cref="AddDropOutput(Writer, int)"/>
    public void AddDropOutput(Writer writer) => Add(writer, DropFrames);

    /// <summary>
    /// Adds an output that has at most <paramref name="frames"/> frames that its reader has not given back, and takes the writer over: that is closed
    /// afterwards. What comes then is dropped. It takes the place of an output of that name that has ended.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="frames"/> is less than 1.</exception>
    /// <inheritdoc cref="AddBlockOutput"/>
    public void AddDropOutput(Writer writer, int frames)
    {
        if (frames < 1)
        {
            throw new ArgumentOutOfRangeException(nameof(frames), frames, "a drop output has one frame at least");
        }
        Add(writer, frames);
    }

    /// <summary>Closes the output that writes the buffer <paramref name="name"/>. What it got stays with its reader.</summary>
    /// <returns>Whether there was one.</returns>
    /// <exception cref="ClosedException">The tee has been disposed.</exception>
    /// <exception cref="InvalidStateException">Another thread is using the tee.</exception>
    public bool RemoveOutput(string name)
    {
        byte[] utf8 = Text.NameToUtf8(name, out nuint length);
        byte removed = 0;
        void* error = null;
        int status;
        bool owner = _handle.Enter();
        fixed (byte* text = utf8)
        {
            status = Api.zb_tee_remove_output_n(_handle.Pointer, text, length, &removed, &error);
        }
        _handle.Leave(owner);
        Errors.ThrowIfFailed(status, error);
        return removed != 0;
    }

    /// <summary>Waits for a frame, and passes it on.</summary>
    /// <param name="timeout">Zero polls once, <see cref="Timeout.InfiniteTimeSpan"/> waits without limit.</param>
    /// <param name="cancellationToken">Ends the wait, for a frame and for space.</param>
    /// <returns>Whether there was one: false if the time is over, or the writer has closed.</returns>
    /// <exception cref="OperationCanceledException">The token ended the wait.</exception>
    /// <exception cref="WriterDeadException">The writer died; everything that it had committed has been passed on. Thrown once.</exception>
    /// <inheritdoc cref="Forward"/>
    public bool Step(TimeSpan timeout, CancellationToken cancellationToken = default) =>
        Wait(Milliseconds.From(timeout), &StepOnce, out _, cancellationToken) == Errors.Ok;

    /// <summary>Passes frames on until their writer closes. After the exception of an output a further call goes on.</summary>
    /// <inheritdoc cref="Step"/>
    public void Run(CancellationToken cancellationToken = default)
    {
        while (Wait(Milliseconds.Infinite, &StepOnce, out _, cancellationToken) == Errors.Ok)
        {
        }
    }

    /// <summary>
    /// Waits for a frame, for a program that looks at it or changes it (<see cref="Frame.GetMutableSpan"/>) before it passes it on (<see cref="Forward"/>).
    /// It is valid until it is disposed or passed on. Frames that a full output has kept back go first.
    /// </summary>
    /// <returns>An invalid frame when the time is over, and one with <see cref="Frame.EndOfStream"/> when the writer closed.</returns>
    /// <inheritdoc cref="Step"/>
    public Frame ReadFrame(TimeSpan timeout, CancellationToken cancellationToken = default)
    {
        _ = Wait(Milliseconds.From(timeout), &ReadOnce, out Frame frame, cancellationToken);
        return frame;
    }

    /// <summary>
    /// Passes a frame on to all outputs: to block outputs, waiting for space in each up to its write time-out; then to drop outputs. The frame ends.
    /// </summary>
    /// <remarks>
    /// The exceptions are those of a block output, whose buffer they name. After <see cref="BufferFullException"/>,
    /// <see cref="OutOfSharedMemoryException"/> and <see cref="InterruptedException"/> the outputs from that one on have still to get the frame: the
    /// next call goes on there.
    /// </remarks>
    /// <exception cref="BufferFullException">No space became free in time.</exception>
    /// <exception cref="OutOfSharedMemoryException">There is no room.</exception>
    /// <exception cref="InterruptedException"><see cref="Interrupt"/> ended the wait.</exception>
    /// <exception cref="FrameTooLargeException">That output does without the frame. The others have got it.</exception>
    /// <exception cref="ReaderDeadException">That output has ended. The others have got the frame.</exception>
    /// <exception cref="InvalidStateException">No reader has read the frame, or another thread is using the tee.</exception>
    /// <exception cref="ObjectDisposedException">The frame has ended.</exception>
    /// <exception cref="ClosedException">The tee has been disposed.</exception>
    public void Forward(Frame frame)
    {
        OwnedFrame owned = frame.ToForward(out long version, out bool wasLent);
        void* error = null;
        int status;
        try
        {
            bool owner = _handle.Enter();
            try
            {
                status = owned.PassOn(version, _handle.Pointer, &error);
            }
            finally
            {
                _handle.Leave(owner);
            }
        }
        finally
        {
            if (wasLent)
            {
                owned.End(version);
            }
        }
        if (status != Errors.Ok && !Judge(status, error, CancellationToken.None))
        {
            Flush();
        }
    }

    /// <summary>Goes on with a frame that an output has kept back; without one it does nothing.</summary>
    /// <inheritdoc cref="Forward"/>
    public void Flush() => Wait(0, &FlushOnce, out _, CancellationToken.None);

    /// <summary>
    /// Makes the call that is blocked now, or else the next one that may block, throw <see cref="InterruptedException"/> once. From any thread.
    /// </summary>
    public void Interrupt()
    {
        _interrupts.Ask();
        SendInterrupt();
    }

    /// <summary>Closes the reader and the outputs; from any thread. A call that is blocked throws <see cref="ClosedException"/>.</summary>
    public void Dispose() => _handle.Close();

    /// <summary>As <see cref="Dispose"/>.</summary>
    public void Close() => Dispose();

    private static int StepOnce(Tee tee, long timeoutMs, out Frame frame, void** error)
    {
        frame = default;
        return Api.zb_tee_step(tee._handle.Pointer, timeoutMs, error);
    }

    private static int FlushOnce(Tee tee, long timeoutMs, out Frame frame, void** error)
    {
        frame = default;
        return Api.zb_tee_flush(tee._handle.Pointer, error);
    }

    private static int ReadOnce(Tee tee, long timeoutMs, out Frame frame, void** error)
    {
        // A frame that somebody keeps stays where it is.
        OwnedFrame place = tee._place.IsFree ? tee._place : tee._place = new OwnedFrame();
        int status = Api.zb_tee_read_frame(tee._handle.Pointer, timeoutMs, place.Empty(), error);
        frame = status switch
        {
            Errors.Ok => place.Filled(),
            Errors.EndOfStream => Frame.End,
            _ => default,
        };
        return status;
    }

    private void Add(Writer writer, int frames)
    {
        ArgumentNullException.ThrowIfNull(writer);
        bool owner = _handle.Enter();
        try
        {
            writer.HandOver(_handle.Pointer, frames);
        }
        finally
        {
            _handle.Leave(owner);
        }
    }

    /// <summary>Calls <paramref name="once"/> until no late interrupt of a token has ended it.</summary>
    private int Wait(
        long timeoutMs, delegate*<Tee, long, out Frame, void**, int> once, out Frame frame, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        using CancellationTokenRegistration registration =
            cancellationToken.UnsafeRegister(static tee => ((Tee)tee!).SendInterrupt(), this);
        var deadline = new Deadline(timeoutMs);
        while (true)
        {
            void* error = null;
            bool owner = _handle.Enter();
            int status = once(this, deadline.Left, out frame, &error);
            _handle.Leave(owner);
            if (status >= Errors.Ok || Judge(status, error, cancellationToken))
            {
                return status;
            }
        }
    }

    /// <summary>Throws what a call failed with; returns false if that was a late interrupt of a token, after which the call goes on.</summary>
    private bool Judge(int status, void* error, CancellationToken cancellationToken)
    {
        if (status == Errors.Interrupted && _handle.IsClosed)
        {
            Api.zb_error_free(error);
            _handle.ThrowClosed();
        }
        if (status == Errors.Interrupted)
        {
            _interrupts.Judge(error, cancellationToken);
            return false;
        }
        Errors.ThrowIfFailed(status, error);
        return true;
    }

    private void SendInterrupt()
    {
        if (_handle.EnterAsGuest())
        {
            Api.zb_tee_interrupt(_handle.Pointer);
            _handle.LeaveAsGuest();
        }
    }

    private sealed class TeeHandle : NativeHandle
    {
        internal TeeHandle(void* pointer, string name)
            : base(pointer, name)
        {
        }

        private protected override string What => "the tee of buffer";

        private protected override void CloseNative() => _ = Api.zb_tee_close(Pointer, null);

        private protected override void FreeNative() => Api.zb_tee_free(Pointer);
    }
}
