using System.Buffers;
using ZeroBuffer.Native;

namespace ZeroBuffer;

/// <summary>A frame that is written piece by piece where it lies: see <see cref="Writer.BeginFrame"/>.</summary>
public sealed class FrameBuilder : IBufferWriter<byte>, IDisposable
{
    private readonly Writer _writer;
    private readonly int _limit;
    private Room? _room;
    private int _written;

    internal FrameBuilder(Writer writer, int sizeHint)
    {
        _writer = writer;
        _limit = (int)Math.Min(writer.MaxFrameSize, Array.MaxLength);
        _room = Acquire(Math.Clamp(sizeHint, 1, _limit));
    }

    /// <summary>Bytes written so far.</summary>
    public int Written => _written;

    /// <summary>Counts bytes that were written to the memory or span asked for last.</summary>
    /// <exception cref="ArgumentOutOfRangeException">There are not so many.</exception>
    /// <exception cref="InvalidStateException">The frame has been committed or discarded.</exception>
    public void Advance(int count)
    {
        if (count < 0 || count > Current.Length - _written)
        {
            throw new ArgumentOutOfRangeException(nameof(count), count, "More bytes than were asked for.");
        }
        _written += count;
    }

    /// <summary>Room for at least so many further bytes.</summary>
    /// <exception cref="FrameTooLargeException">The buffer cannot take so large a frame.</exception>
    /// <exception cref="InvalidStateException">The frame has been committed or discarded.</exception>
    public Memory<byte> GetMemory(int sizeHint = 0) => Grow(sizeHint).Memory[_written..];

    /// <inheritdoc cref="GetMemory"/>
    public Span<byte> GetSpan(int sizeHint = 0) => Grow(sizeHint).GetSpan()[_written..];

    /// <summary>Commits the frame, with the bytes written.</summary>
    /// <returns>Its sequence number.</returns>
    /// <exception cref="InvalidFrameSizeException">Nothing was written.</exception>
    /// <exception cref="InvalidStateException">The frame has been committed or discarded.</exception>
    public ulong Commit()
    {
        _ = Current;
        ulong sequence = _writer.CommitFrame(_written);
        End();
        return sequence;
    }

    /// <summary>Discards the frame, unless it was committed.</summary>
    public void Dispose()
    {
        if (_room is not null)
        {
            End();
            try
            {
                _writer.DiscardFrame();
            }
            catch (ClosedException)
            {
                // The writer took the frame with it.
            }
        }
    }

    private Room Current => _room ?? throw new InvalidStateException("the frame has been committed or discarded");

    private void End()
    {
        _room?.End();
        _room = null;
    }

    private Room Grow(int more)
    {
        ArgumentOutOfRange.ThrowIfNegative(more, "sizeHint");
        Room room = Current;
        long needed = (long)_written + Math.Max(more, 1);
        if (needed <= room.Length)
        {
            return room;
        }
        if (needed > _limit)
        {
            throw new FrameTooLargeException(
                $"buffer `{_writer.Name}`: a frame of {needed} bytes does not fit, the largest has {_limit}: create the buffer with a larger payload")
            {
                BufferName = _writer.Name,
            };
        }
        // The ring has one place at a time for a frame: what is written goes aside meanwhile.
        byte[] aside = ArrayPool<byte>.Shared.Rent(_written);
        room.GetSpan()[.._written].CopyTo(aside);
        End();
        _writer.DiscardFrame();
        _room = Acquire((int)Math.Min(_limit, Math.Max(needed, 2L * room.Length)));
        aside.AsSpan(0, _written).CopyTo(_room.GetSpan());
        ArrayPool<byte>.Shared.Return(aside);
        return _room;
    }

    private unsafe Room Acquire(int size)
    {
        _writer.AcquireFrameBuffer(size, out Span<byte> bytes);
        fixed (byte* first = bytes)
        {
            return new Room(first, size);
        }
    }

    /// <summary>The acquired bytes, until the frame ends.</summary>
    private sealed unsafe class Room : MemoryManager<byte>
    {
        private readonly byte* _data;
        private bool _ended;

        internal Room(byte* data, int length)
        {
            _data = data;
            Length = length;
        }

        internal int Length { get; }

        public override Span<byte> GetSpan()
        {
            if (_ended)
            {
                throw new ObjectDisposedException(nameof(FrameBuilder), "The frame has been committed, discarded, or has grown.");
            }
            return new Span<byte>(_data, Length);
        }

        public override MemoryHandle Pin(int elementIndex = 0)
        {
            _ = GetSpan();
            return new MemoryHandle(_data + elementIndex, pinnable: this);
        }

        public override void Unpin()
        {
            // Shared memory does not move.
        }

        internal void End() => _ended = true;

        protected override void Dispose(bool disposing)
        {
        }
    }
}
