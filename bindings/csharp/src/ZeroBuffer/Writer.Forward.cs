using ZeroBuffer.Native;

namespace ZeroBuffer;

/// <content>Frames that are passed on.</content>
public unsafe partial class Writer
{
    /// <summary>
    /// Connects to the buffer <paramref name="name"/>, with all other defaults; <see cref="Forward"/> lends frames if
    /// <paramref name="requestPayloadSharing"/> is true and both readers allow it.
    /// </summary>
    /// <inheritdoc cref="Writer(string, WriterOptions?)"/>
    public Writer(string name, bool requestPayloadSharing)
        : this(name, new WriterOptions { RequestPayloadSharing = requestPayloadSharing })
    {
    }

    /// <summary>Whether this writer requests payload sharing, and its reader allows it.</summary>
    /// <exception cref="ClosedException">The writer has been disposed.</exception>
    /// <exception cref="InvalidStateException">Another thread is using the writer.</exception>
    public bool PayloadSharingEnabled => Sharing().Enabled != 0;

    /// <summary>How many frames are lent through this writer now.</summary>
    /// <inheritdoc cref="PayloadSharingEnabled" path="/exception"/>
    public ulong PayloadShareCount => Sharing().ShareCount;

    /// <summary>The process that lends frames through this buffer; 0: none.</summary>
    /// <inheritdoc cref="PayloadSharingEnabled" path="/exception"/>
    public long PayloadOwnerPid => (long)Sharing().OwnerPid;

    private protected WriterHandle Handle => _handle;

    /// <summary>
    /// Passes a frame on that a reader of this process has read, waiting for space up to <see cref="WriteTimeout"/>: without a copy where both readers
    /// allow payload sharing and this writer requests it, else by a copy. The frame ends.
    /// </summary>
    /// <remarks>
    /// If the call fails, a frame that was retained (<see cref="Frame.Retain"/>) stays valid; any other ends all the same. A frame that
    /// is lent keeps its place in its ring until the next reader has given it back, too.
    /// </remarks>
    /// <returns>Whether the next reader looks at the bytes where they are.</returns>
    /// <exception cref="InvalidStateException">No reader has read the frame, a frame is acquired, or another thread is using the writer.</exception>
    /// <exception cref="ObjectDisposedException">The frame has ended.</exception>
    /// <inheritdoc cref="WriteFrame(ReadOnlySpan{byte})" path="/exception[not(contains(@cref, 'InvalidState'))]"/>
    public bool Forward(Frame frame)
    {
        OwnedFrame owned = frame.ToForward(out long version, out bool wasLent);
        try
        {
            while (true)
            {
                byte shared = 0;
                void* error = null;
                bool owner = _handle.Enter();
                int status = owned.Forward(version, _handle.Pointer, &shared, &error);
                _handle.Leave(owner);
                if (status == Errors.Ok)
                {
                    return shared != 0;
                }
                JudgeFailure(status, error, CancellationToken.None);
            }
        }
        finally
        {
            if (wasLent)
            {
                owned.End(version);
            }
        }
    }

    /// <summary>As <see cref="Forward"/>, for a frame that goes to several writers: it stays valid until it is disposed.</summary>
    /// <param name="frame">A frame that was retained.</param>
    /// <returns>Whether the next reader looks at the bytes where they are.</returns>
    /// <exception cref="InvalidStateException">
    /// The frame was not retained, no reader has read it, a frame is acquired, or another thread is using the writer.
    /// </exception>
    /// <example>
    /// <code>
    /// using Frame kept = frame.Retain();
    /// foreach (Writer output in outputs)
    /// {
    ///     output.ForwardTo(kept);
    /// }
    /// </code>
    /// </example>
    /// <inheritdoc cref="Forward"/>
    public bool ForwardTo(Frame frame)
    {
        OwnedFrame owned = frame.Owned(out long version);
        owned.Hold(version);
        try
        {
            while (true)
            {
                byte shared = 0;
                void* error = null;
                bool owner = _handle.Enter();
                int status = owned.ForwardTo(_handle.Pointer, &shared, &error);
                _handle.Leave(owner);
                if (status == Errors.Ok)
                {
                    return shared != 0;
                }
                JudgeFailure(status, error, CancellationToken.None);
            }
        }
        finally
        {
            owned.LetGo();
        }
    }

    /// <summary>Makes the writer, which is closed afterwards, an output of a tee: a block output if <paramref name="frames"/> is 0.</summary>
    internal void HandOver(void* tee, int frames)
    {
        void* error = null;
        bool owner = _handle.Enter();
        int status = frames == 0
            ? Api.zb_tee_add_block_output(tee, _handle.Pointer, &error)
            : Api.zb_tee_add_drop_output(tee, _handle.Pointer, (nuint)frames, &error);
        _handle.Leave(owner);
        Errors.ThrowIfFailed(status, error);
        _handle.Close();
    }

    private NativePayloadSharing Sharing()
    {
        NativePayloadSharing sharing = default;
        void* error = null;
        bool owner = _handle.Enter();
        int status = Api.zb_writer_payload_sharing(_handle.Pointer, &sharing, &error);
        _handle.Leave(owner);
        ThrowIfFailed(status, error);
        return sharing;
    }
}
