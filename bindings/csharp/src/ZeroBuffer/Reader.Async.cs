using System.Runtime.CompilerServices;
using System.Threading.Tasks.Sources;
using ZeroBuffer.Native;

namespace ZeroBuffer;

/// <content>Asynchronous reads.</content>
public sealed partial class Reader
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
    /// A frame that is there completes at once, without an allocation. Otherwise a thread that the library keeps for this waits, and
    /// the continuation runs on the thread pool.
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
    public ValueTask<Frame> ReadFrameAsync(TimeSpan timeout, CancellationToken cancellationToken = default)
    {
        long timeoutMs = Milliseconds.From(timeout);
        try
        {
            if (TryReadFrame(out Frame frame) || frame.EndOfStream)
            {
                return new ValueTask<Frame>(frame);
            }
            if (cancellationToken.IsCancellationRequested)
            {
                return ValueTask.FromCanceled<Frame>(cancellationToken);
            }
            _asyncRead ??= new AsyncRead(this);
            return _asyncRead.StartAsync(timeoutMs, cancellationToken);
        }
        catch (ZeroBufferException error)
        {
            return ValueTask.FromException<Frame>(error);
        }
    }

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

    /// <summary>A read that waits; one object for all of a reader's.</summary>
    private sealed class AsyncRead : IValueTaskSource<Frame>
    {
        private readonly Reader _reader;
        private readonly Action _wait;
        private ManualResetValueTaskSourceCore<Frame> _core = new() { RunContinuationsAsynchronously = true };
        private long _timeoutMs;
        private CancellationToken _cancellation;
        private int _busy;

        internal AsyncRead(Reader reader)
        {
            _reader = reader;
            _wait = Wait;
        }

        public Frame GetResult(short token)
        {
            try
            {
                return _core.GetResult(token);
            }
            finally
            {
                Volatile.Write(ref _busy, 0);
            }
        }

        public ValueTaskSourceStatus GetStatus(short token) => _core.GetStatus(token);

        public void OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
            _core.OnCompleted(continuation, state, token, flags);

        internal ValueTask<Frame> StartAsync(long timeoutMs, CancellationToken cancellationToken)
        {
            if (Interlocked.Exchange(ref _busy, 1) != 0)
            {
                throw new InvalidStateException($"the reader of buffer `{_reader.Name}`: an asynchronous read is under way; await it first")
                {
                    BufferName = _reader.Name,
                };
            }
            _core.Reset();
            _timeoutMs = timeoutMs;
            _cancellation = cancellationToken;
            WaitingThreads.Run(_wait);
            return new ValueTask<Frame>(this, _core.Version);
        }

        private void Wait()
        {
            Frame frame;
            try
            {
                using CancellationTokenRegistration registration = _reader.InterruptOn(_cancellation);
                frame = _reader.Read(_timeoutMs, _cancellation);
            }
#pragma warning disable CA1031 // Any exception belongs to the awaiting caller.
            catch (Exception error)
#pragma warning restore CA1031
            {
                _core.SetException(error);
                return;
            }
            _core.SetResult(frame);
        }
    }
}
