namespace ZeroBuffer.DuplexChannel;

/// <summary>The side of a duplex channel that sends requests.</summary>
public interface IDuplexClient : IDisposable
{
    /// <summary>Whether the server lives and reads requests.</summary>
    bool IsServerConnected { get; }

    /// <summary>Copies the bytes into the request buffer as one request.</summary>
    /// <returns>The request's sequence number, which its response carries too.</returns>
    ulong SendRequest(byte[] data);

    /// <summary>Acquires bytes of the request buffer, to be filled in place and sent by <see cref="CommitRequest"/> on the same thread.</summary>
    ulong AcquireRequestBuffer(int size, out Span<byte> buffer);

    /// <summary>Sends the request acquired.</summary>
    void CommitRequest();

    /// <summary>Waits for the next response; invalid when the time is over, or the server's handler failed.</summary>
    /// <exception cref="WriterDeadException">The server died or stopped.</exception>
    Frame ReceiveResponse(TimeSpan timeout);

    /// <summary>Describes this client to the server, once.</summary>
    /// <exception cref="InvalidOperationException">Metadata already written.</exception>
    /// <exception cref="ArgumentException">Metadata too large for buffer.</exception>
    void SetMetadata(ReadOnlySpan<byte> metadata);
}
