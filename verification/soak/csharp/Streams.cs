using System.Buffers.Binary;

namespace ZeroBuffer.Soak;

/// <summary>The sides of a stream.</summary>
internal static unsafe class Streams
{
    private static readonly TimeSpan Slice = TimeSpan.FromMilliseconds(10);

    private static ReadOnlySpan<byte> Metadata => "the metadata of every writer"u8;

    /// <summary>Creates the buffer, and reads one writer after the other until the order to close.</summary>
    internal static void Read(Board board)
    {
        var numbers = new Numbers(board.Seed);
        using var reader = new Reader(board.Name, new BufferConfig(64, 64 * numbers.Between(4, 1024)) { Classic = board.IsClassic });
        board.Set(Board.Ready);
        bool slow = numbers.OneIn(4);
        var sink = new Sink(board, numbers.Between(0, 4), numbers);
        while (!board.IsOrdered)
        {
            try
            {
                Frame frame = reader.ReadFrame(Slice);
                if (frame.IsValid)
                {
                    if (sink.Take(frame))
                    {
                        ReadOnlySpan<byte> metadata = reader.GetMetadata();
                        Check(metadata.IsEmpty || metadata.SequenceEqual(Metadata), "torn metadata");
                    }
                    if (slow)
                    {
                        Thread.Yield();
                    }
                }
                else if (frame.EndOfStream)
                {
                    sink.End();
                    board.End(Board.EndClosed);
                }
            }
            catch (WriterDeadException)
            {
                sink.End();
                board.End(Board.EndDead);
            }
        }
        sink.ReleaseAll();
    }

    /// <summary>Connects, and writes until the order to close, or the end of the reader.</summary>
    internal static void Write(Board board)
    {
        var numbers = new Numbers(board.Seed);
        var options = new WriterOptions { ConnectTimeout = Timeout.InfiniteTimeSpan, WriteTimeout = Timeout.InfiniteTimeSpan };
        using var writer = new Writer(board.Name, options);
        try
        {
            writer.SetMetadata(Metadata);
        }
        catch (MetadataAlreadyWrittenException)
        {
            // A writer before this one has written it.
        }
        board.Set(Board.Ready);
        ulong burst = numbers.Between(0, 3) switch { 0 => 1, 1 => 16, _ => ulong.MaxValue };
        int max = (int)(((writer.MaxFrameSize + 16) / 8) - 16);
        byte[] bytes = new byte[max];
        for (ulong sequence = 1; !board.IsOrdered; sequence++)
        {
            int length = numbers.Between(sequence == 1 ? Content.Salt : 1, max + 1);
            try
            {
                ulong number = numbers.Between(0, 4) switch
                {
                    0 => InPlace(writer, board.Salt, sequence, max, length),
                    1 => InPlace(writer, board.Salt, sequence, length, length),
                    _ => Copied(writer, board.Salt, sequence, bytes.AsSpan(0, length)),
                };
                Check(number == sequence, $"the writer counts {number} frames, not {sequence}");
            }
            catch (ReaderDeadException)
            {
                board.TellAndAwaitOrder();
                break;
            }
            Interlocked.Exchange(ref *board.Committed, (long)sequence);
            if (sequence % burst == 0)
            {
                Thread.Sleep(numbers.Between(0, 3));
            }
        }
    }

    internal static void Check(bool holds, string what)
    {
        if (!holds)
        {
            throw new InvalidOperationException(what);
        }
    }

    private static ulong InPlace(Writer writer, ulong salt, ulong sequence, int acquired, int length)
    {
        writer.AcquireFrameBuffer(acquired, out Span<byte> bytes);
        Content.Fill(salt, sequence, bytes[..length]);
        return writer.CommitFrame(length);
    }

    private static ulong Copied(Writer writer, ulong salt, ulong sequence, Span<byte> bytes)
    {
        Content.Fill(salt, sequence, bytes);
        return writer.WriteFrame(bytes);
    }

    /// <summary>Checks frames, and holds a few.</summary>
    private sealed class Sink
    {
        /// <summary>Frames from the oldest held one to the newest, at most: a writer then always finds a place.</summary>
        private const int Span = 4;

        private readonly Board _board;
        private readonly int _hold;
        private readonly List<(ulong Salt, ulong Arrival, Frame Frame)> _held = new();
        private Numbers _numbers;

        /// <summary>The writer whose frames come, until its end is told; 0 for none. And how many have come.</summary>
        private ulong _salt;
        private ulong _received;
        private ulong _last;
        private ulong _arrivals;

        internal Sink(Board board, int hold, Numbers numbers)
        {
            _board = board;
            _hold = hold;
            _numbers = numbers;
        }

        internal void End() => _salt = 0;

        /// <summary>Whether it is the first frame of a writer.</summary>
        internal bool Take(Frame frame)
        {
            bool first = frame.Sequence == 1;
            if (first)
            {
                Check(_salt == 0, "a frame of the next writer before the end of this one was told");
                ulong salt = BinaryPrimitives.ReadUInt64LittleEndian(frame.Data);
                Judge("torn", salt > _last, $"a first frame of writer {salt} after one of {_last}");
                (_salt, _received, _last) = (salt, 0, salt);
            }
            Judge("missing", _salt != 0, $"frame {frame.Sequence} is the first one of its writer to come");
            _received++;
            Judge("missing", frame.Sequence == _received, $"frame {frame.Sequence} of writer {_salt}, not {_received}");
            Judge("torn", Content.IsFilled(_salt, _received, frame.Data), $"frame {_received} of writer {_salt} is not what was written");
            Interlocked.Exchange(ref *_board.ReceivedOf(_salt), (long)_received);
            _board.Add("frames", 1);
            _board.Add("bytes", frame.Size);
            if (first)
            {
                _board.Ring();
            }
            _arrivals++;
            if (_hold == 0)
            {
                // The next read gives it back.
                return first;
            }
            _held.Add((_salt, _arrivals, frame.Retain()));
            while (_held.Count > _hold)
            {
                bool elderly = _arrivals - _held[0].Arrival >= Span;
                Release(elderly ? 0 : _numbers.Between(0, _held.Count));
            }
            return first;
        }

        internal void ReleaseAll()
        {
            while (_held.Count > 0)
            {
                Release(0);
            }
        }

        private void Release(int which)
        {
            (ulong salt, _, Frame frame) = _held[which];
            _held.RemoveAt(which);
            ulong sequence = frame.Sequence;
            Judge("torn", Content.IsFilled(salt, sequence, frame.Data), $"frame {sequence} of writer {salt} was overwritten while it was held");
            frame.Dispose();
        }

        private void Judge(string sum, bool holds, string what)
        {
            if (!holds)
            {
                _board.Add(sum, 1);
                throw new InvalidOperationException(what);
            }
        }
    }
}
