using System.Runtime.InteropServices;
using ZeroBuffer.Native;

namespace ZeroBuffer;

/// <content>Asynchronous writes.</content>
public unsafe partial class Writer
{
    private AsyncWrite? _asyncWrite;

#pragma warning disable RS0026 // A token is the last argument of each overload, and optional, as elsewhere in .NET.

    /// <summary>As <see cref="WriteFrameAsync(ReadOnlyMemory{byte}, TimeSpan, CancellationToken)"/>, waiting up to <see cref="WriteTimeout"/>.</summary>
    /// <inheritdoc cref="WriteFrameAsync(ReadOnlyMemory{byte}, TimeSpan, CancellationToken)"/>
    public ValueTask<ulong> WriteFrameAsync(ReadOnlyMemory<byte> data, CancellationToken cancellationToken = default) =>
        WriteFrameAsync(data, WriteTimeout, cancellationToken);

    /// <summary>
    /// As <see cref="WriteFrame(ReadOnlySpan{byte}, TimeSpan, CancellationToken)"/>, without blocking the caller. One at a time; the bytes stay
    /// unchanged until it has completed.
    /// </summary>
    /// <remarks>
    /// A frame for which there is space is written at once, without an allocation. Otherwise nothing waits but the library's two threads, as in
    /// <see cref="Reader.ReadFrameAsync(TimeSpan, CancellationToken)"/>.
    /// </remarks>
    /// <returns>The frame's sequence number.</returns>
    /// <exception cref="OperationCanceledException">The token ended the wait.</exception>
    /// <inheritdoc cref="WriteFrame(ReadOnlySpan{byte})"/>
    public ValueTask<ulong> WriteFrameAsync(ReadOnlyMemory<byte> data, TimeSpan timeout, CancellationToken cancellationToken = default)
    {
        long timeoutMs = Milliseconds.From(timeout);
        try
        {
            if (timeoutMs == 0)
            {
                return new ValueTask<ulong>(WriteFrame(data.Span, timeout, cancellationToken));
            }
            if (TryWriteFrame(data.Span, out ulong sequence))
            {
                return new ValueTask<ulong>(sequence);
            }
            if (cancellationToken.IsCancellationRequested)
            {
                return ValueTask.FromCanceled<ulong>(cancellationToken);
            }
            _asyncWrite ??= new AsyncWrite(this);
            return _asyncWrite.StartAsync(data, timeoutMs, cancellationToken);
        }
        catch (ZeroBufferException error)
        {
            return ValueTask.FromException<ulong>(error);
        }
        catch (OperationCanceledException)
        {
            return ValueTask.FromCanceled<ulong>(cancellationToken);
        }
    }

#pragma warning restore RS0026

    /// <summary>A write that waits.</summary>
    private sealed class AsyncWrite : AsyncCall<ulong>
    {
        private readonly Writer _writer;
        private ReadOnlyMemory<byte> _data;

        internal AsyncWrite(Writer writer)
            : base(writer._handle) => _writer = writer;

        internal ValueTask<ulong> StartAsync(ReadOnlyMemory<byte> data, long timeoutMs, CancellationToken cancellationToken)
        {
            ValueTask<ulong> task = BeginAsync(timeoutMs, cancellationToken);
            _data = data;
            Go();
            return task;
        }

        private protected override ulong OutOfTime()
        {
            int status = WriteNow(last: true, out ulong sequence, out void* error);
            return status == Errors.Ok ? sequence : Judge(status, error);
        }

        private protected override int Try(out ulong result, out void* error)
        {
            int status = WriteNow(last: false, out result, out error);
            if (status == Errors.Timeout)
            {
                // The thread that interrupts says why before.
                Api.zb_writer_clear_interrupt(_writer._handle.Pointer);
                return _writer._interrupts.IsAsked || IsOver ? Errors.Interrupted : status;
            }
            return status;
        }

        private protected override ulong Judge(int status, void* error)
        {
            _writer.ThrowIfFailed(status, error);
            return 0;
        }

        private protected override void JudgeInterrupt(void* error, CancellationToken cancellation) =>
            _writer._interrupts.Judge(error, cancellation);

        private protected override int Prepare(out void* error)
        {
            void* failure = null;
            int status = Api.zb_writer_fd(_writer._handle.Pointer, null, &failure);
            error = failure;
            return status;
        }

        private protected override bool Ask(out int status, out void* error) =>
            Notification.Ask(&Api.zb_writer_notify, _writer._handle.Pointer, this, out status, out error);

        private protected override void Interrupt() => _writer.SendInterrupt();

        private protected override void Forget() => _data = default;

        /// <summary>Writes if there is space; <paramref name="last"/>: or else tells that there is none by an error.</summary>
        private int WriteNow(bool last, out ulong sequence, out void* error)
        {
            ulong number = 0;
            void* failure = null;
            int status;
            fixed (byte* bytes = &MemoryMarshal.GetReference(_data.Span))
            {
                void* writer = _writer._handle.Pointer;
                status = last
                    ? Api.zb_writer_write_frame_within(writer, Present(bytes), (nuint)_data.Length, 0, &number, &failure)
                    : Api.zb_writer_try_write_frame(writer, Present(bytes), (nuint)_data.Length, &number, &failure);
            }
            sequence = number;
            error = failure;
            return status;
        }
    }
}
