using System.Runtime.CompilerServices;
using ZeroBuffer.Native;

namespace ZeroBuffer;

/// <content>Asynchronous reads.</content>
public sealed unsafe partial class Reader
{
    private AsyncRead? _asyncRead;

#pragma warning disable RS0026 // A token is the last argument of each overload, and optional, as elsewhere in .NET.

    /// <summary>Waits for the next frame without limit. See <see cref="ReadFrameAsync(TimeSpan, CancellationToken)"/>.</summary>
    /// <inheritdoc cref="ReadFrameAsync(TimeSpan, CancellationToken)"/>
    public ValueTask<Frame> ReadFrameAsync(CancellationToken cancellationToken = default) =>
        ReadFrameAsync(Timeout.InfiniteTimeSpan, cancellationToken);

    /// <summary>
    /// As <see cref="ReadFrame(TimeSpan, CancellationToken)"/>, without blocking the caller. One at a time; the frame is valid until it is
    /// disposed or the reader reads again.
    /// </summary>
    /// <remarks>
    /// A frame that is there completes at once, without an allocation. Otherwise nothing waits but the library's two threads, which wait for all
    /// handles of the process. The continuation runs on one of them, if the other one is free, or on the thread pool.
    /// </remarks>
    /// <exception cref="WriterDeadException">The writer died; everything that it had committed has been delivered.</exception>
    /// <exception cref="OperationCanceledException">The token ended the wait.</exception>
    /// <exception cref="InterruptedException"><see cref="Interrupt"/> ended the wait.</exception>
    /// <exception cref="ClosedException">The reader has been disposed.</exception>
    /// <exception cref="InvalidStateException">Another read is under way.</exception>
    /// <example>
    /// <code>
    /// await foreach (Frame frame in reader.ReadAllAsync(stoppingToken))
    /// {
    ///     Show(frame.Data);
    /// }
    /// </code>
    /// </example>
    public ValueTask<Frame> ReadFrameAsync(TimeSpan timeout, CancellationToken cancellationToken = default) =>
        Milliseconds.IsUsual(timeout) && TryTake(out Frame frame)
            ? new ValueTask<Frame>(frame)
            : ReadOrWaitAsync(Milliseconds.From(timeout), cancellationToken);

#pragma warning restore RS0026

    /// <summary>The frames one after the other, each valid until the next step, until the writer closes.</summary>
    /// <inheritdoc cref="ReadFrameAsync(TimeSpan, CancellationToken)"/>
    public async IAsyncEnumerable<Frame> ReadAllAsync([EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        while (true)
        {
            Frame frame = await ReadFrameAsync(cancellationToken).ConfigureAwait(false);
            if (!frame.IsValid)
            {
                yield break;
            }
            yield return frame;
        }
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private ValueTask<Frame> ReadOrWaitAsync(long timeoutMs, CancellationToken cancellationToken)
    {
        try
        {
            if (TryReadOnce(out Frame frame) || frame.EndOfStream)
            {
                return new ValueTask<Frame>(frame);
            }
            if (cancellationToken.IsCancellationRequested)
            {
                return ValueTask.FromCanceled<Frame>(cancellationToken);
            }
            if (timeoutMs == 0)
            {
                return default;
            }
            _asyncRead ??= new AsyncRead(this);
            return _asyncRead.StartAsync(timeoutMs, cancellationToken);
        }
        catch (ZeroBufferException error)
        {
            return ValueTask.FromException<Frame>(error);
        }
    }

    /// <summary>A read that waits.</summary>
    private sealed class AsyncRead : AsyncCall<Frame>
    {
        private readonly Reader _reader;

        internal AsyncRead(Reader reader)
            : base(reader._handle) => _reader = reader;

        internal ValueTask<Frame> StartAsync(long timeoutMs, CancellationToken cancellationToken)
        {
            ValueTask<Frame> task = BeginAsync(timeoutMs, cancellationToken);
            Go();
            return task;
        }

        private protected override Frame OutOfTime() => default;

        private protected override int Try(out Frame result, out void* error) => _reader.ReadInside(0, out result, out error, latest: false);

        private protected override Frame Judge(int status, void* error) => _reader.Vain(status, error);

        private protected override void JudgeInterrupt(void* error, CancellationToken cancellation) =>
            _reader._interrupts.Judge(error, cancellation);

        private protected override int Prepare(out void* error)
        {
            void* failure = null;
            int status = Api.zb_reader_fd(_reader._handle.Pointer, null, &failure);
            error = failure;
            return status;
        }

        private protected override bool Ask(out int status, out void* error) =>
            Notification.Ask(&Api.zb_reader_notify, _reader._handle.Pointer, this, out status, out error);

        private protected override void Interrupt() => _reader.SendInterrupt();
    }
}
