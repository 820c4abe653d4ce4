namespace ZeroBuffer.DuplexChannel;

/// <summary>
/// A response: bytes in shared memory. <b>Valid until it is disposed, or the thread that received it receives again from the same
/// client</b>; <see cref="Retain"/> returns one that stays until it is disposed, as one of <see cref="IDuplexClient.CallAsync"/> does.
/// </summary>
/// <example>
/// <code>
/// using DuplexResponse response = client.Call(request, TimeSpan.FromSeconds(5));
/// File.WriteAllBytes("output.jpg", response.ToArray());
/// </code>
/// </example>
public readonly struct DuplexResponse : IDisposable, IEquatable<DuplexResponse>
{
    private readonly Frame _frame;

    internal DuplexResponse(Frame frame) => _frame = frame;

    /// <summary>The response as a frame.</summary>
    internal Frame Frame => _frame;

    /// <summary>A response that is not there: what a receive returns when none came in time.</summary>
    public static DuplexResponse Invalid => default;

    /// <summary>Whether there is a response, and it has not ended. One of 0 bytes is valid.</summary>
    public bool IsValid => _frame.IsValid;

    /// <summary>The sequence number of the request.</summary>
    /// <exception cref="ObjectDisposedException">The response has ended.</exception>
    public ulong Sequence => _frame.Sequence;

    /// <summary>Bytes of data.</summary>
    /// <exception cref="ObjectDisposedException">The response has ended.</exception>
    public int Size => _frame.Size;

    /// <summary>The bytes. Do not use the span after the response has ended.</summary>
    /// <exception cref="ObjectDisposedException">The response has ended.</exception>
    public ReadOnlySpan<byte> Data => _frame.Data;

    /// <summary>The bytes; another name of <see cref="Data"/>.</summary>
    /// <exception cref="ObjectDisposedException">The response has ended.</exception>
    public ReadOnlySpan<byte> Span => _frame.Data;

    /// <summary>The bytes as memory that can be kept in fields and passed to asynchronous code.</summary>
    /// <exception cref="ObjectDisposedException">The response has ended.</exception>
    public ReadOnlyMemory<byte> Memory => _frame.Memory;

    /// <summary>Whether two responses are copies of one.</summary>
    public static bool operator ==(DuplexResponse left, DuplexResponse right) => left.Equals(right);

    /// <summary>Whether two responses are not copies of one.</summary>
    public static bool operator !=(DuplexResponse left, DuplexResponse right) => !left.Equals(right);

    /// <summary>A copy of the bytes.</summary>
    /// <exception cref="ObjectDisposedException">The response has ended.</exception>
    public byte[] ToArray() => _frame.ToArray();

    /// <summary>Copies the bytes to the start of <paramref name="target"/>.</summary>
    /// <exception cref="ArgumentException">The target is shorter than the response.</exception>
    /// <exception cref="ObjectDisposedException">The response has ended.</exception>
    public void CopyTo(Span<byte> target) => _frame.CopyTo(target);

    /// <summary>A response with the same bytes that is valid until it is disposed, on any thread. This one ends.</summary>
    /// <exception cref="ObjectDisposedException">The response has ended.</exception>
    public DuplexResponse Retain() => new(_frame.Retain());

    /// <summary>Gives the bytes back to the server. A second time does nothing.</summary>
    public void Dispose() => _frame.Dispose();

    /// <summary>Whether the other response is a copy of this one.</summary>
    public bool Equals(DuplexResponse other) => _frame.Equals(other._frame);

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is DuplexResponse other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode() => _frame.GetHashCode();

    /// <inheritdoc/>
    public override string ToString() => IsValid ? $"response to request {Sequence}, {Size} bytes" : "no response";
}
