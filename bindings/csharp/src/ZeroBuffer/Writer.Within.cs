using System.Runtime.InteropServices;
using ZeroBuffer.Native;

namespace ZeroBuffer;

/// <content>Writes with a time-out of their own, and those that a token ends.</content>
public unsafe partial class Writer
{
    /// <summary>Copies the bytes into the buffer as one frame; the token ends the wait for space.</summary>
    /// <exception cref="OperationCanceledException">The token ended the wait.</exception>
    /// <inheritdoc cref="WriteFrame(ReadOnlySpan{byte})"/>
    public ulong WriteFrame(ReadOnlySpan<byte> data, CancellationToken cancellationToken) =>
        cancellationToken.CanBeCanceled ? WriteFrame(data, WriteTimeout, cancellationToken) : WriteFrame(data);

    /// <summary>Copies the bytes into the buffer as one frame, waiting for space up to a time-out of this call's own.</summary>
    /// <param name="data">The bytes, at least 1.</param>
    /// <param name="timeout">Zero polls once, <see cref="Timeout.InfiniteTimeSpan"/> waits without limit.</param>
    /// <param name="cancellationToken">Ends the wait for space. A frame for which there is space is written all the same.</param>
    /// <exception cref="OperationCanceledException">The token ended the wait.</exception>
    /// <inheritdoc cref="WriteFrame(ReadOnlySpan{byte})"/>
    public ulong WriteFrame(ReadOnlySpan<byte> data, TimeSpan timeout, CancellationToken cancellationToken = default)
    {
        long timeoutMs = Milliseconds.From(timeout);
        if (!cancellationToken.CanBeCanceled)
        {
            return WriteWithin(data, new Deadline(timeoutMs), cancellationToken);
        }
        if (TryWriteFrame(data, out ulong sequence))
        {
            return sequence;
        }
        cancellationToken.ThrowIfCancellationRequested();
        using CancellationTokenRegistration registration = InterruptOn(cancellationToken);
        return WriteWithin(data, new Deadline(timeoutMs), cancellationToken);
    }

    /// <summary>Acquires bytes of the buffer, to be filled in place; the token ends the wait for space.</summary>
    /// <exception cref="OperationCanceledException">The token ended the wait.</exception>
    /// <inheritdoc cref="AcquireFrameBuffer(int, out Span{byte})"/>
    public void AcquireFrameBuffer(int size, out Span<byte> buffer, CancellationToken cancellationToken)
    {
        if (cancellationToken.CanBeCanceled)
        {
            AcquireFrameBuffer(size, out buffer, WriteTimeout, cancellationToken);
        }
        else
        {
            AcquireFrameBuffer(size, out buffer);
        }
    }

    /// <summary>Acquires bytes of the buffer, to be filled in place, waiting for space up to a time-out of this call's own.</summary>
    /// <param name="size">The number of bytes, at least 1.</param>
    /// <param name="buffer">The bytes of the buffer.</param>
    /// <param name="timeout">Zero polls once, <see cref="Timeout.InfiniteTimeSpan"/> waits without limit.</param>
    /// <param name="cancellationToken">Ends the wait for space. Space that is there is acquired all the same.</param>
    /// <exception cref="OperationCanceledException">The token ended the wait.</exception>
    /// <inheritdoc cref="AcquireFrameBuffer(int, out Span{byte})"/>
    public void AcquireFrameBuffer(int size, out Span<byte> buffer, TimeSpan timeout, CancellationToken cancellationToken = default)
    {
        ArgumentOutOfRange.ThrowIfNegative(size);
        long timeoutMs = Milliseconds.From(timeout);
        if (cancellationToken.CanBeCanceled)
        {
            if (TryAcquireFrameBuffer(size, out buffer))
            {
                return;
            }
            cancellationToken.ThrowIfCancellationRequested();
        }
        using CancellationTokenRegistration registration = InterruptOn(cancellationToken);
        buffer = new Span<byte>(AcquireWithin(size, new Deadline(timeoutMs), cancellationToken), size);
    }

    /// <summary>Writes once more after an unexpected interrupt; any other failure throws.</summary>
    private ulong WriteAgain(ReadOnlySpan<byte> data, int status, void* error)
    {
        JudgeFailure(status, error, CancellationToken.None);
        return WriteWithin(data, new Deadline(Milliseconds.From(WriteTimeout)), CancellationToken.None);
    }

    private ulong WriteWithin(ReadOnlySpan<byte> data, Deadline deadline, CancellationToken cancellationToken)
    {
        while (true)
        {
            ulong sequence;
            void* error = null;
            int status;
            bool owner = _handle.Enter();
            fixed (byte* bytes = &MemoryMarshal.GetReference(data))
            {
                status = Api.zb_writer_write_frame_within(
                    _handle.Pointer, Present(bytes), (nuint)data.Length, deadline.Left, &sequence, &error);
            }
            _handle.Leave(owner);
            if (status == Errors.Ok)
            {
                return sequence;
            }
            JudgeFailure(status, error, cancellationToken);
        }
    }

    /// <summary>Acquires once more after an unexpected interrupt; any other failure throws.</summary>
    private byte* AcquireAgain(int size, int status, void* error)
    {
        JudgeFailure(status, error, CancellationToken.None);
        return AcquireWithin(size, new Deadline(Milliseconds.From(WriteTimeout)), CancellationToken.None);
    }

    private byte* AcquireWithin(int size, Deadline deadline, CancellationToken cancellationToken)
    {
        while (true)
        {
            byte* data = null;
            void* error = null;
            bool owner = _handle.Enter();
            int status = Api.zb_writer_acquire_frame_buffer_within(_handle.Pointer, (nuint)size, deadline.Left, &data, &error);
            _handle.NoteAcquired(status);
            _handle.Leave(owner);
            if (status == Errors.Ok)
            {
                return data;
            }
            JudgeFailure(status, error, cancellationToken);
        }
    }

    private CancellationTokenRegistration InterruptOn(CancellationToken cancellationToken) =>
        cancellationToken.UnsafeRegister(static writer => ((Writer)writer!).SendInterrupt(), this);
}
