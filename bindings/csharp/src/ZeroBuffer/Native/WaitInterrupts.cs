namespace ZeroBuffer.Native;

/// <summary>
/// Tells the interrupts of a handle apart: those that the user asked for, those of a cancellation token, and late ones of a token
/// whose call had already ended, after which the call goes on.
/// </summary>
internal struct WaitInterrupts
{
    private int _asked;

    /// <summary>Whether the user asked for one that no call has had.</summary>
    internal bool IsAsked => Volatile.Read(ref _asked) != 0;

    /// <summary>The user asks for an interrupt; to be called before it is sent.</summary>
    internal void Ask() => Volatile.Write(ref _asked, 1);

    /// <summary>What an interrupted call does: throws, or returns to wait for the rest of its time.</summary>
    /// <exception cref="InterruptedException">The user asked for it.</exception>
    /// <exception cref="OperationCanceledException">The token did.</exception>
    internal unsafe void Judge(void* error, CancellationToken cancellation)
    {
        ZeroBufferException interrupted =
            error == null ? new InterruptedException("the call was interrupted") : Errors.ToException(Errors.Interrupted, error);
        if (Interlocked.Exchange(ref _asked, 0) != 0)
        {
            throw interrupted;
        }
        cancellation.ThrowIfCancellationRequested();
    }
}
