namespace ZeroBuffer.Cli;

/// <summary>Where a reader's frames go: a thread writes them out, so that a stalled pipe can never keep the reader from ending.</summary>
internal sealed class Sink
{
    /// <summary>Frames under way to the thread.</summary>
    private const int MostUnderWay = 32;

    /// <summary>Small frames are written together, up to this many bytes.</summary>
    private const int Together = 1 << 17;

    /// <summary>How long an interrupted reader waits for what it has read to be written.</summary>
    private const long GraceMs = 500;

    /// <summary>How often a full queue is looked at.</summary>
    private static readonly TimeSpan Look = TimeSpan.FromMilliseconds(20);

    private readonly string _path;
    private readonly int _file;
    private readonly Queue<SharedFrame> _frames = new();
    private int _underWay;
    private bool _isClosed;
    private bool _isDone;
    private int _errno;

    /// <summary>Opens a file, or standard output (-); waits for the reader of a FIFO.</summary>
    /// <exception cref="Failure">It cannot be opened.</exception>
    internal Sink(string path)
    {
        _path = path;
        _file = OpenedFile.ForWriting("--output", path, ExitCodes.Reader.ReadError);
        Libc.EnlargePipe(_file);
        new Thread(Work) { IsBackground = true, Name = "zerobuffer-output" }.Start();
    }

    /// <summary>
    /// Hands over a frame, which the sink then releases; waits while too many are under way. False if the end is requested or the output
    /// has failed: then it does not take the frame.
    /// </summary>
    internal bool Put(SharedFrame frame)
    {
        lock (_frames)
        {
            while (_underWay >= MostUnderWay && !_isDone)
            {
                if (!Monitor.Wait(_frames, Look) && Stop.IsRequested)
                {
                    return false;
                }
            }
            if (_isDone)
            {
                return false;
            }
            _underWay++;
            _frames.Enqueue(frame);
            Monitor.PulseAll(_frames);
            return true;
        }
    }

    /// <summary>Waits until everything is written; for an interrupted reader only a moment.</summary>
    /// <exception cref="Failure">The output failed.</exception>
    internal void Finish()
    {
        lock (_frames)
        {
            _isClosed = true;
            Monitor.PulseAll(_frames);
            long? end = null;
            while (!_isDone)
            {
                if (Stop.IsRequested)
                {
                    end ??= Environment.TickCount64 + GraceMs;
                    if (Environment.TickCount64 > end)
                    {
                        return;
                    }
                }
                Monitor.Wait(_frames, Look);
            }
            if (_errno != 0)
            {
                throw new Failure(ExitCodes.Reader.ReadError, $"cannot write to --output {_path}: {Libc.Describe(_errno)}");
            }
        }
    }

    private void Work()
    {
        int errno = WriteFrames();
        lock (_frames)
        {
            _errno = errno;
            _isDone = true;
            Monitor.PulseAll(_frames);
        }
    }

    /// <summary>Writes frames until the sink is closed or the output fails; returns the error number, 0 for none.</summary>
    private int WriteFrames()
    {
        byte[] buffer = new byte[Together];
        int size = 0;
        while (true)
        {
            SharedFrame? frame = Next(isPatient: false);
            // Nothing waits in the buffer while there is nothing to add to it: a live picture is shown at once.
            if (frame is null || frame.Frame.Size > Together - size)
            {
                int failed = WriteAll(buffer.AsSpan(0, size));
                if (failed != 0)
                {
                    return failed;
                }
                size = 0;
                frame ??= Next(isPatient: true);
            }
            if (frame is null)
            {
                return 0;
            }
            ReadOnlySpan<byte> bytes = frame.Frame.Data;
            if (bytes.Length > Together / 4)
            {
                int failed = WriteAll(buffer.AsSpan(0, size));
                size = 0;
                failed = failed != 0 ? failed : WriteAll(bytes);
                if (failed != 0)
                {
                    return failed;
                }
            }
            else
            {
                bytes.CopyTo(buffer.AsSpan(size));
                size += bytes.Length;
            }
            frame.Release();
            lock (_frames)
            {
                _underWay--;
                Monitor.PulseAll(_frames);
            }
        }
    }

    /// <summary>The next frame; null at the end, or if there is none now.</summary>
    private SharedFrame? Next(bool isPatient)
    {
        lock (_frames)
        {
            while (isPatient && !_isClosed && _frames.Count == 0)
            {
                Monitor.Wait(_frames);
            }
            return _frames.TryDequeue(out SharedFrame? frame) ? frame : null;
        }
    }

    /// <summary>Writes all of it; returns the error number, 0 for none.</summary>
    private int WriteAll(ReadOnlySpan<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            nint written = Libc.Write(_file, bytes);
            if (written >= 0)
            {
                bytes = bytes[(int)written..];
            }
            else if (written == -Libc.EAGAIN)
            {
                // Another process has made the stream non-blocking.
                _ = Libc.Poll(_file, -1, Libc.Writable, -1);
            }
            else if (written != -Libc.EINTR)
            {
                return (int)-written;
            }
        }
        return 0;
    }
}
