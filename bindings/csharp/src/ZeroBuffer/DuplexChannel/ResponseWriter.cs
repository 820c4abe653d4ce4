using ZeroBuffer.Native;

namespace ZeroBuffer.DuplexChannel;

/// <summary>
/// Writes the answer to one request, usually in place; see <see cref="IImmutableDuplexServer.StartInPlace"/>. Valid until the handler returns; after
/// that its methods throw.
/// </summary>
/// <remarks>
/// A handler that writes no answer answers with no bytes. One that acquires bytes, and then neither commits them nor writes another answer, fails its
/// request. One thread at a time uses it.
/// </remarks>
/// <example>
/// <code>
/// server.StartInPlace((request, response) =>
/// {
///     Span&lt;byte&gt; picture = response.Acquire(request.Size);
///     Filter(request.Data, picture);
///     response.Commit();
/// });
/// </code>
/// </example>
public readonly unsafe struct ResponseWriter : IEquatable<ResponseWriter>
{
    private static nuint Whole => nuint.MaxValue;

    private readonly ResponseState? _state;
    private readonly long _version;

    internal ResponseWriter(ResponseState state, long version)
    {
        _state = state;
        _version = version;
    }

    /// <summary>Whether two values write the same answer.</summary>
    public static bool operator ==(ResponseWriter left, ResponseWriter right) => left.Equals(right);

    /// <summary>Whether two values write different answers.</summary>
    public static bool operator !=(ResponseWriter left, ResponseWriter right) => !left.Equals(right);

    /// <summary>
    /// Lends bytes for the answer, to be filled and committed. Their first content is undefined. Do not use the span after <see cref="Commit()"/>,
    /// <see cref="Discard"/> or the end of the handler.
    /// </summary>
    /// <remarks>
    /// They are bytes of the response buffer where one thread runs all handlers; this then waits for space for as long as the client lives. In a
    /// thread pool they are memory of the process, which the commit copies.
    /// </remarks>
    /// <exception cref="FrameTooLargeException">The response buffer is too small.</exception>
    /// <exception cref="OutOfSharedMemoryException">There is no memory for them.</exception>
    /// <exception cref="InvalidStateException">The request has been answered, or bytes are acquired already.</exception>
    /// <exception cref="ObjectDisposedException">The handler has returned.</exception>
    public Span<byte> Acquire(int size)
    {
        ArgumentOutOfRange.ThrowIfNegative(size);
        byte* data = null;
        void* error = null;
        Errors.ThrowIfFailed(Api.zb_responder_acquire(Responder, (nuint)size, &data, &error), error);
        return new Span<byte>(data, size);
    }

    /// <summary>Answers with all bytes acquired.</summary>
    /// <exception cref="InvalidStateException">Nothing is acquired.</exception>
    /// <exception cref="ObjectDisposedException">The handler has returned.</exception>
    public void Commit() => Commit(Whole);

    /// <summary>Answers with the first bytes acquired; with no bytes if the size is 0.</summary>
    /// <exception cref="InvalidFrameSizeException">Fewer bytes are acquired; they stay acquired.</exception>
    /// <inheritdoc cref="Commit()"/>
    public void Commit(int size)
    {
        ArgumentOutOfRange.ThrowIfNegative(size);
        Commit((nuint)size);
    }

    /// <summary>Discards the bytes acquired, if any. The handler may acquire others, or <see cref="Write"/>.</summary>
    /// <exception cref="ObjectDisposedException">The handler has returned.</exception>
    public void Discard() => Api.zb_responder_discard(Responder);

    /// <summary>Answers with a copy of the bytes, made at once in the response buffer.</summary>
    /// <exception cref="InvalidStateException">The request has been answered, or bytes are acquired.</exception>
    /// <exception cref="ObjectDisposedException">The handler has returned.</exception>
    public void Write(ReadOnlySpan<byte> data)
    {
        void* error = null;
        fixed (byte* bytes = data)
        {
            Errors.ThrowIfFailed(Api.zb_responder_reply(Responder, bytes == null ? (byte*)1 : bytes, (nuint)data.Length, &error), error);
        }
    }

    /// <inheritdoc/>
    public bool Equals(ResponseWriter other) => ReferenceEquals(_state, other._state) && _version == other._version;

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is ResponseWriter other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(_state, _version);

    private void* Responder => _state is null ? ResponseState.ThrowEnded() : _state.Look(_version);

    private void Commit(nuint size)
    {
        void* error = null;
        Errors.ThrowIfFailed(Api.zb_responder_commit(Responder, size, &error), error);
    }
}
