using ZeroBuffer.Native;

namespace ZeroBuffer;

/// <content>Frames that are passed on.</content>
public sealed unsafe partial class Writer
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
}
