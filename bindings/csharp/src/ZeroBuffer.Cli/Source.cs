namespace ZeroBuffer.Cli;

/// <summary>Real data for a writer: a file or a pipe, read straight into shared memory.</summary>
internal sealed class Source
{
    /// <summary>Bytes read ahead.</summary>
    private const int MostAhead = 4096;

    /// <summary>Pause between two looks at the reader while the input has nothing.</summary>
    private static readonly TimeSpan Look = TimeSpan.FromMilliseconds(100);

    private readonly int _file;
    private readonly string _what;

    /// <summary>Whether a read can wait: a pipe, a terminal or a socket.</summary>
    private readonly bool _canBlock;

    /// <summary>Read ahead, so that the end of the data is known before space for another frame is asked for.</summary>
    private readonly byte[] _ahead = new byte[MostAhead];
    private int _aheadSize;

    /// <summary>Opens a file, or standard input (-); does not wait for the writer of a FIFO.</summary>
    internal Source(string path)
    {
        _file = OpenedFile.ForReading("--input", path, ExitCodes.Writer.WriteError);
        _what = path == OpenedFile.Standard ? "standard input" : path;
        _canBlock = Libc.TypeOf(_file) != Libc.FileType.Regular;
        Libc.EnlargePipe(_file);
    }

    /// <summary>Whether there is more. Waits until that is known.</summary>
    internal bool HasMore(Writer writer, int size)
    {
        if (_aheadSize == 0)
        {
            _aheadSize = Read(writer, _ahead.AsSpan(0, Math.Min(size, MostAhead)));
        }
        return _aheadSize > 0;
    }

    /// <summary>Fills in the frame that <paramref name="writer"/> has acquired; returns the bytes that there were.</summary>
    internal int Fill(Writer writer, Span<byte> frame)
    {
        int filled = _aheadSize;
        _ahead.AsSpan(0, filled).CopyTo(frame);
        _aheadSize = 0;
        while (filled < frame.Length)
        {
            int came = Read(writer, frame[filled..]);
            if (came == 0)
            {
                break;
            }
            filled += came;
        }
        return filled;
    }

    /// <summary>Bytes read, 0 at the end of the data.</summary>
    private int Read(Writer writer, Span<byte> target)
    {
        while (true)
        {
            Woken woken = _canBlock ? Stop.WaitReadable(_file, Look) : Woken.Ready;
            if (woken == Woken.Stopped)
            {
                throw Failure.Interrupted();
            }
            if (woken == Woken.TimeOut)
            {
                if (writer.IsReaderConnected())
                {
                    continue;
                }
                throw new Failure(ExitCodes.Writer.WriteError, $"buffer `{writer.Name}`: the reader has gone: start it again");
            }
            nint came = Libc.Read(_file, target);
            if (came >= 0)
            {
                return (int)came;
            }
            if (came is not (-Libc.EINTR or -Libc.EAGAIN))
            {
                throw new Failure(ExitCodes.Writer.WriteError, $"cannot read {_what}: {Libc.Describe((int)-came)}");
            }
        }
    }
}
