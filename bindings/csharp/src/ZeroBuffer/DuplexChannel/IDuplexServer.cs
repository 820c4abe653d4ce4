namespace ZeroBuffer.DuplexChannel;

/// <summary>How a server runs its handler.</summary>
public enum ProcessingMode
{
    /// <summary>One request after the other, on the one thread that reads the request buffer. The default.</summary>
    SingleThread = 0,

    /// <summary>Several requests at once: the handler is called from several threads, and responses may overtake each other.</summary>
    ThreadPool = 1,
}

/// <summary>
/// Answers a request. The bytes are copied into the response buffer as soon as the handler returns, before any other code runs. They may be bytes of
/// the request, of an array, or of memory that the handler reuses.
/// </summary>
/// <remarks>What it throws reaches the client as <see cref="RequestFailedException"/> with its message, and <see cref="IDuplexServer.OnError"/>.</remarks>
/// <param name="request">Valid during the call; <see cref="Frame.Retain"/> copies it.</param>
public delegate ReadOnlySpan<byte> RequestHandler(Frame request);

/// <summary>Gets the metadata of a client, valid during the call, on a thread of the server, before its next request is handled.</summary>
public delegate void InitHandler(ReadOnlySpan<byte> metadata);

/// <summary>What a server's <see cref="IDuplexServer.OnError"/> is told.</summary>
public sealed class DuplexErrorEventArgs : EventArgs
{
    /// <summary>Arguments with an exception.</summary>
    public DuplexErrorEventArgs(ZeroBufferException exception) => Exception = exception;

    /// <summary>
    /// What went wrong. If a handler threw, it is a <see cref="RequestFailedException"/> whose inner exception is the handler's.
    /// </summary>
    public ZeroBufferException Exception { get; }
}

/// <summary>The side of a duplex channel that answers requests. Any thread may call any method at any time.</summary>
/// <remarks>
/// A server outlives its clients: when a client closes or dies, the next one can connect. A started server runs until it is stopped or disposed, even
/// if nothing refers to it any more.
/// </remarks>
public interface IDuplexServer : IDisposable
{
    /// <summary>
    /// Raised when a handler fails, a response cannot be sent, or the request buffer had to be created again, on a thread of the
    /// server. Exceptions of a subscriber are dropped.
    /// </summary>
    event EventHandler<DuplexErrorEventArgs>? OnError;

    /// <summary>Raised with the metadata of each client that sets some. What a subscriber throws is dropped.</summary>
    event InitHandler? OnInit;

    /// <summary>The channel's name.</summary>
    string Channel { get; }

    /// <summary>Whether requests are being processed; false once the server has been disposed.</summary>
    bool IsRunning { get; }

    /// <summary>
    /// Stops processing: clients learn of it at once, and both buffers' names are free. The server can be started again.
    /// </summary>
    /// <exception cref="HandlerBusyException">
    /// A handler is still running after 80 ms. The handler can check <see cref="Frame.IsCancelled"/>; its answer is dropped, and its thread ends when
    /// it returns.
    /// </exception>
    void Stop();

    /// <summary>
    /// Waits until the server does not run any more, and its handlers have ended: another thread has stopped or disposed it, or it has ended by itself
    /// (<see cref="OnError"/> tells why).
    /// </summary>
    /// <param name="timeout">Zero polls once, <see cref="Timeout.InfiniteTimeSpan"/> waits without limit.</param>
    /// <returns>
    /// True if that is so, at once if it was not started or has been disposed; false if the time is over, at once in a handler or callback of the
    /// server, whose end cannot be waited for there.
    /// </returns>
    /// <example>
    /// <code>
    /// server.Start(request => Process(request.Data));
    /// server.Wait(Timeout.InfiniteTimeSpan);
    /// </code>
    /// </example>
    bool Wait(TimeSpan timeout);

    /// <summary>Waits like <see cref="Wait"/>, without limit and without blocking the caller.</summary>
    /// <remarks>One thread that the library keeps for this waits, however many callers there are. The token ends the caller's wait only.</remarks>
    /// <exception cref="OperationCanceledException">The token ended the wait.</exception>
    /// <example>
    /// <code>
    /// await server.WaitAsync(stoppingToken);
    /// </code>
    /// </example>
    Task WaitAsync(CancellationToken cancellationToken = default);

    /// <summary>Sets the number of threads of <see cref="ProcessingMode.ThreadPool"/>, for the next start. At least 1.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The number is less than 1.</exception>
    void SetPoolSize(int threads);
}

/// <summary>A server whose handler reads each request and answers with bytes of its own.</summary>
public interface IImmutableDuplexServer : IDuplexServer
{
    /// <summary>Starts processing, on threads of the server, and returns at once. The response carries the request's sequence number.</summary>
    /// <exception cref="InvalidStateException">The server runs.</exception>
    /// <exception cref="ZeroBufferException">After a stop, those of <see cref="Reader(string, BufferConfig?)"/>.</exception>
    /// <exception cref="ClosedException">The server has been disposed.</exception>
    /// <example>
    /// <code>
    /// server.Start(request => Process(request.Data));
    /// </code>
    /// </example>
    void Start(RequestHandler handler, ProcessingMode mode = ProcessingMode.SingleThread);

    /// <summary>
    /// Starts processing by a handler that writes its answer in place, in the response buffer; see <see cref="ResponseWriter"/>. In a thread pool the
    /// answer is copied once.
    /// </summary>
    /// <inheritdoc cref="Start"/>
    /// <example>
    /// <code>
    /// server.StartInPlace((request, response) =>
    /// {
    ///     request.Data.CopyTo(response.Acquire(request.Size));
    ///     response.Commit();
    /// });
    /// </code>
    /// </example>
    void StartInPlace(Action<Frame, ResponseWriter> handler, ProcessingMode mode = ProcessingMode.SingleThread);

    /// <summary>
    /// Starts processing by a handler that awaits: no thread waits for its answer, and many requests may be under way. Returns at once.
    /// </summary>
    /// <param name="handler">
    /// Gets the request, which is valid until it is answered, and a token that is cancelled some milliseconds after the response is not wanted
    /// any more. It is called on the thread that reads the requests, and has that thread until it awaits something that is not done yet.
    /// </param>
    /// <inheritdoc cref="Start"/>
    /// <example>
    /// <code>
    /// server.StartAsync(async (request, cancellation) => await Store(request.Memory, cancellation));
    /// </code>
    /// </example>
#pragma warning disable VSTHRD200 // It is the handler that is asynchronous.
    void StartAsync(Func<Frame, CancellationToken, ValueTask<ReadOnlyMemory<byte>>> handler);
#pragma warning restore VSTHRD200
}

/// <summary>A server whose handler changes each request in place; its bytes then are the response.</summary>
public interface IMutableDuplexServer : IDuplexServer
{
    /// <summary>
    /// Starts processing, on threads of the server, and returns at once. The handler changes <see cref="Frame.GetMutableSpan"/>.
    /// </summary>
    /// <inheritdoc cref="IImmutableDuplexServer.Start"/>
    /// <example>
    /// <code>
    /// server.Start(request => request.GetMutableSpan().Reverse());
    /// </code>
    /// </example>
    void Start(Action<Frame> handler, ProcessingMode mode = ProcessingMode.SingleThread);
}
