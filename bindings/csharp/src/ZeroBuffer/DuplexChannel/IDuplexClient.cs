namespace ZeroBuffer.DuplexChannel;

/// <summary>The side of a duplex channel that sends requests. Any thread may call any method at any time.</summary>
/// <remarks>
/// Each request has exactly one outcome. <see cref="Call(ReadOnlySpan{byte}, TimeSpan, CancellationToken)"/> sends a request and waits for its
/// outcome. <see cref="ReceiveResponse"/> returns, in the order of arrival, the outcomes of requests that were sent by other methods. After the end
/// of the channel, every call throws that end.
/// </remarks>
/// <example>
/// <code>
/// using IDuplexClient client = DuplexChannelFactory.Instance.CreateClient("image-processing");
/// ulong sequence = client.SendRequest(picture);
/// DuplexResponse response = client.ReceiveResponse(TimeSpan.FromSeconds(5));
/// </code>
/// </example>
public interface IDuplexClient : IDisposable
{
    /// <summary>The channel's name.</summary>
    string Channel { get; }

    /// <summary>The largest request, in bytes: the payload size of the request buffer less a header of 16 bytes.</summary>
    long MaxRequestSize { get; }

    /// <summary>Whether the server lives and reads requests; false once the client has been disposed.</summary>
    bool IsServerConnected { get; }

    /// <inheritdoc cref="SendRequest(ReadOnlySpan{byte})"/>
    ulong SendRequest(byte[] data);

    /// <summary>
    /// Copies the bytes into the request buffer as one request, waiting for space up to <see cref="ClientOptions.RequestTimeout"/>. Its
    /// response is for <see cref="ReceiveResponse"/>.
    /// </summary>
    /// <returns>The request's sequence number, which its response carries too.</returns>
    /// <exception cref="InvalidFrameSizeException">There are 0 bytes.</exception>
    /// <exception cref="FrameTooLargeException">The request does not fit into the buffer.</exception>
    /// <exception cref="BufferFullException">No space became free in time.</exception>
    /// <exception cref="InvalidStateException">This thread has acquired a request buffer.</exception>
    /// <exception cref="ReaderDeadException">The server died or stopped.</exception>
    /// <exception cref="WriterDeadException">The server died.</exception>
    /// <exception cref="ClosedException">The client has been disposed.</exception>
    ulong SendRequest(ReadOnlySpan<byte> data);

    /// <summary>
    /// Like <see cref="SendRequest(ReadOnlySpan{byte})"/>, with a deadline. If the server has not started the request by then, it does not start it,
    /// and the outcome is <see cref="DeadlineExceededException"/>.
    /// </summary>
    /// <inheritdoc cref="SendRequest(ReadOnlySpan{byte})"/>
    ulong SendRequestWithin(ReadOnlySpan<byte> data, TimeSpan timeout);

    /// <summary>
    /// Acquires bytes of the request buffer, to be filled in place. Call <see cref="CommitRequest"/>, <see cref="CallAcquired"/> or
    /// <see cref="DiscardRequest"/> afterwards, on this thread. Other threads that send wait meanwhile.
    /// </summary>
    /// <returns>The sequence number that the request will have.</returns>
    /// <inheritdoc cref="SendRequest(ReadOnlySpan{byte})"/>
    ulong AcquireRequestBuffer(int size, out Span<byte> buffer);

    /// <summary>Sends the request that this thread has acquired.</summary>
    /// <exception cref="InvalidStateException">This thread has acquired none.</exception>
    /// <exception cref="ClosedException">The client has been disposed.</exception>
    void CommitRequest();

    /// <summary>Discards the request that this thread has acquired.</summary>
    /// <inheritdoc cref="CommitRequest"/>
    void DiscardRequest();

    /// <summary>Sends the request that this thread has acquired, and waits for its response.</summary>
    /// <inheritdoc cref="Call(ReadOnlySpan{byte}, TimeSpan, CancellationToken)"/>
    DuplexResponse CallAcquired(TimeSpan timeout);

    /// <summary>
    /// Waits for the next outcome that no other call waits for, in the order of arrival. Returns an invalid response when the time is over.
    /// </summary>
    /// <exception cref="RequestFailedException">The handler failed, for the request <see cref="ZeroBufferException.Sequence"/>.</exception>
    /// <exception cref="CancelledException">That request was cancelled.</exception>
    /// <exception cref="DeadlineExceededException">That request's deadline is over.</exception>
    /// <exception cref="WriterDeadException">The server died or stopped.</exception>
    /// <exception cref="ReaderDeadException">The server died or stopped.</exception>
    /// <exception cref="ClosedException">The client has been disposed.</exception>
    DuplexResponse ReceiveResponse(TimeSpan timeout);

    /// <summary>As <see cref="ReceiveResponse"/>, for the outcome of one request alone.</summary>
    /// <exception cref="InvalidStateException">Its outcome has been returned already, or there was no such request.</exception>
    /// <inheritdoc cref="ReceiveResponse"/>
    DuplexResponse ReceiveResponseTo(ulong sequence, TimeSpan timeout);

    /// <summary>Sends a request and waits for its own response, while other threads send and receive.</summary>
    /// <exception cref="RequestFailedException">The handler failed; the message is the handler's.</exception>
    /// <exception cref="DeadlineExceededException">No response came in time.</exception>
    /// <exception cref="CancelledException">The request was cancelled by <see cref="CancelRequest"/>.</exception>
    /// <exception cref="OperationCanceledException">The token cancelled the request.</exception>
    /// <exception cref="InvalidFrameSizeException">There are 0 bytes.</exception>
    /// <exception cref="FrameTooLargeException">The request does not fit into the buffer.</exception>
    /// <exception cref="BufferFullException">No space became free in time.</exception>
    /// <exception cref="ReaderDeadException">The server died or stopped.</exception>
    /// <exception cref="WriterDeadException">The server died.</exception>
    /// <exception cref="ClosedException">The client has been disposed.</exception>
    DuplexResponse Call(ReadOnlySpan<byte> data, TimeSpan timeout, CancellationToken cancellationToken = default);

    /// <summary>
    /// Like <see cref="Call(ReadOnlySpan{byte}, TimeSpan, CancellationToken)"/>, without blocking the caller or another thread, neither for space nor for
    /// the response. The request is copied. The response is valid until it is disposed.
    /// </summary>
    /// <inheritdoc cref="Call(ReadOnlySpan{byte}, TimeSpan, CancellationToken)"/>
    Task<DuplexResponse> CallAsync(ReadOnlyMemory<byte> data, TimeSpan timeout, CancellationToken cancellationToken = default);

    /// <summary>Cancels a request: its outcome is <see cref="CancelledException"/>, at once.</summary>
    /// <returns>Whether the request was still under way.</returns>
    /// <exception cref="ClosedException">The client has been disposed.</exception>
    bool CancelRequest(ulong sequence);

    /// <summary>Describes this client to the server, whose <see cref="IDuplexServer.OnInit"/> gets the bytes. At most once per client.</summary>
    /// <exception cref="MetadataAlreadyWrittenException">It has been done.</exception>
    /// <exception cref="MetadataTooLargeException">The bytes do not fit.</exception>
    /// <exception cref="ClosedException">The client has been disposed.</exception>
    void SetMetadata(ReadOnlySpan<byte> metadata);
}
