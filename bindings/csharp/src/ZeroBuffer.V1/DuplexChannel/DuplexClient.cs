extern alias v2;

using V2 = v2::ZeroBuffer;

namespace ZeroBuffer.DuplexChannel;

/// <summary>The client that the library makes; see <see cref="IDuplexClient"/>.</summary>
public sealed class DuplexClient : IDuplexClient
{
    private readonly V2.DuplexChannel.DuplexClient _client;

    /// <summary>Connects to the server of the channel.</summary>
    /// <exception cref="BufferNotFoundException">There is no server.</exception>
    public DuplexClient(string channelName)
    {
        Errors.CheckName(channelName, nameof(channelName));
        try
        {
            _client = new V2.DuplexChannel.DuplexClient(channelName);
        }
        catch (V2.ZeroBufferException error)
        {
            throw Errors.ToV1(error);
        }
    }

    /// <inheritdoc/>
    public bool IsServerConnected => _client.IsServerConnected;

    /// <inheritdoc/>
    public ulong SendRequest(byte[] data)
    {
        try
        {
            return _client.SendRequest(data);
        }
        catch (V2.ZeroBufferException error)
        {
            throw Errors.ToV1(error);
        }
    }

    /// <inheritdoc/>
    public ulong AcquireRequestBuffer(int size, out Span<byte> buffer)
    {
        try
        {
            return _client.AcquireRequestBuffer(size, out buffer);
        }
        catch (V2.ZeroBufferException error)
        {
            throw Errors.ToV1(error);
        }
    }

    /// <inheritdoc/>
    public void CommitRequest()
    {
        try
        {
            _client.CommitRequest();
        }
        catch (V2.ZeroBufferException error)
        {
            throw Errors.ToV1(error);
        }
    }

    /// <inheritdoc/>
    public Frame ReceiveResponse(TimeSpan timeout)
    {
        try
        {
            V2.DuplexChannel.DuplexResponse response = _client.ReceiveResponse(timeout);
            return response.IsValid ? new Frame(response.Retain().Frame) : Frame.Invalid;
        }
        catch (V2.RequestFailedException)
        {
            // A server of 1.x sends nothing when its handler has failed.
            return Frame.Invalid;
        }
        catch (V2.ReaderDeadException error)
        {
            throw new WriterDeadException(error.Message, error);
        }
        catch (V2.ZeroBufferException error)
        {
            throw Errors.ToV1(error);
        }
    }

    /// <inheritdoc/>
    public void SetMetadata(ReadOnlySpan<byte> metadata)
    {
        try
        {
            _client.SetMetadata(metadata);
        }
        catch (V2.ZeroBufferException error)
        {
            throw Errors.ToV1(error);
        }
    }

    /// <summary>Closes the client. Responses that are still valid stay so until they are disposed.</summary>
    public void Dispose() => _client.Dispose();
}
