extern alias v2;

using V2 = v2::ZeroBuffer;

namespace ZeroBuffer;

/// <summary>Where the frames of a <see cref="Writer"/> go.</summary>
internal abstract class WriterTarget
{
    internal abstract string Name { get; }

    internal abstract TimeSpan WriteTimeout { get; set; }

    internal abstract bool IsReaderConnected { get; }

    internal abstract ulong Write(ReadOnlySpan<byte> data);

    internal abstract Span<byte> Acquire(int size, out ulong sequence);

    internal abstract ulong Commit();

    internal abstract void SetMetadata(ReadOnlySpan<byte> data);

    internal abstract void Dispose();
}

/// <summary>A buffer.</summary>
internal sealed class BufferTarget : WriterTarget
{
    private readonly V2.Writer _writer;
    private ulong _last;

    internal BufferTarget(V2.Writer writer) => _writer = writer;

    internal override string Name => _writer.Name;

    internal override TimeSpan WriteTimeout
    {
        get => _writer.WriteTimeout;
        set => _writer.WriteTimeout = value;
    }

    internal override bool IsReaderConnected => _writer.IsReaderConnected();

    internal override ulong Write(ReadOnlySpan<byte> data) => _last = _writer.WriteFrame(data);

    internal override Span<byte> Acquire(int size, out ulong sequence)
    {
        _writer.AcquireFrameBuffer(size, out Span<byte> bytes);
        // A writer numbers its frames one after the other, from 1.
        sequence = _last + 1;
        return bytes;
    }

    internal override ulong Commit() => _last = _writer.CommitFrame();

    internal override void SetMetadata(ReadOnlySpan<byte> data) => _writer.SetMetadata(data);

    internal override void Dispose() => _writer.Dispose();
}

/// <summary>The answer to the request that a thread of a server handles.</summary>
internal sealed class AnswerTarget : WriterTarget
{
    private V2.DuplexChannel.ResponseWriter _response;
    private int _acquired;
    private ulong _sequence;
    private bool _answered;

    internal AnswerTarget(string name) => Name = name;

    internal override string Name { get; }

    /// <summary>The server waits for space for as long as the client lives.</summary>
    internal override TimeSpan WriteTimeout { get; set; } = TimeSpan.FromSeconds(5);

    /// <summary>The client that sent the request.</summary>
    internal override bool IsReaderConnected => true;

    internal void Begin(ulong sequence, V2.DuplexChannel.ResponseWriter response)
    {
        _response = response;
        _sequence = sequence;
        _acquired = 0;
        _answered = false;
    }

    /// <summary>The handler has returned: what it acquired and did not commit is no answer.</summary>
    internal void End()
    {
        if (_acquired > 0 && !_answered)
        {
            _response.Discard();
            _response.Write(default);
        }
    }

    internal override ulong Write(ReadOnlySpan<byte> data)
    {
        CheckOpen();
        if (_acquired > 0)
        {
            _response.Discard();
        }
        _response.Write(data);
        _answered = true;
        return _sequence;
    }

    internal override Span<byte> Acquire(int size, out ulong sequence)
    {
        CheckOpen();
        if (_acquired > 0)
        {
            _response.Discard();
            _acquired = 0;
        }
        sequence = _sequence;
        Span<byte> bytes = _response.Acquire(size);
        _acquired = size;
        return bytes;
    }

    internal override ulong Commit()
    {
        if (_acquired == 0 || _answered)
        {
            throw new InvalidOperationException("No frame is acquired");
        }
        _response.Commit();
        _answered = true;
        return _sequence;
    }

    internal override void SetMetadata(ReadOnlySpan<byte> data) =>
        throw new NotSupportedException("The metadata of the response buffer is not a handler's to set");

    internal override void Dispose()
    {
        // The next request has the same one.
    }

    private void CheckOpen()
    {
        if (_answered)
        {
            throw new InvalidOperationException("A request has one response");
        }
    }
}
