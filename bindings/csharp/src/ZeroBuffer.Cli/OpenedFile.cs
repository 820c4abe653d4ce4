namespace ZeroBuffer.Cli;

/// <summary>
/// Files that users name, as descriptors. A FIFO whose other end is not open yet is waited for, and Ctrl-C ends the wait.
/// </summary>
internal static class OpenedFile
{
    /// <summary>The name of the standard stream.</summary>
    internal const string Standard = "-";

    /// <summary>Pause between two attempts to open a FIFO that has no reader.</summary>
    private static readonly TimeSpan Look = TimeSpan.FromMilliseconds(20);

    /// <summary>Opens a file, or standard input (-), for reading. Never waits.</summary>
    /// <exception cref="Failure">It cannot be opened; with <paramref name="code"/> if the system is short of something.</exception>
    internal static int ForReading(string option, string path, int code)
    {
        // Without blocking a FIFO opens at once. poll(2) then waits for its writer as it waits for data.
        int file = path == Standard
            ? Libc.Duplicate(StandardStreams.Input)
            : Libc.Open(path, Libc.ReadOnly | Libc.NonBlocking | Libc.NoTerminal);
        if (file < 0)
        {
            throw Refused(option, path, -file, code);
        }
        if (Libc.TypeOf(file) == Libc.FileType.Directory)
        {
            Libc.Close(file);
            throw Refused(option, path, Libc.EISDIR, code);
        }
        return file;
    }

    /// <summary>Opens a file, or standard output (-), for writing; waits for the reader of a FIFO.</summary>
    /// <inheritdoc cref="ForReading"/>
    internal static int ForWriting(string option, string path, int code)
    {
        if (path == Standard)
        {
            int copy = Libc.Duplicate(StandardStreams.Result);
            return copy >= 0 ? copy : throw Refused(option, path, -copy, code);
        }
        bool waits = false;
        while (true)
        {
            // Without blocking, a FIFO without a reader is refused with ENXIO instead of waited for.
            int file = Libc.Open(path, Libc.WriteOnly | Libc.Create | Libc.Truncate | Libc.NonBlocking | Libc.NoTerminal);
            if (file >= 0)
            {
                Libc.SetBlocking(file);
                return file;
            }
            if (file != -Libc.ENXIO || Libc.TypeOf(path) != Libc.FileType.Fifo)
            {
                throw Refused(option, path, -file, code);
            }
            if (!waits)
            {
                Output.Inform($"waiting for a reader of the FIFO {path}");
            }
            waits = true;
            if (!Stop.Sleep(Look))
            {
                throw Failure.Interrupted();
            }
        }
    }

    /// <summary>Reads a file to its end but no more than <paramref name="most"/> bytes, and closes it.</summary>
    /// <inheritdoc cref="ForReading"/>
    internal static byte[] ReadAll(int file, string option, string path, long most, int code)
    {
        using var bytes = new MemoryStream();
        byte[] piece = new byte[65536];
        int errno = 0;
        bool more = true;
        while (more && errno == 0 && bytes.Length < most)
        {
            Woken woken = Stop.WaitReadable(file, TimeSpan.FromSeconds(1));
            if (woken == Woken.Stopped)
            {
                break;
            }
            if (woken == Woken.TimeOut)
            {
                continue;
            }
            nint came = Libc.Read(file, piece.AsSpan(0, (int)Math.Min(piece.Length, most - bytes.Length)));
            if (came > 0)
            {
                bytes.Write(piece.AsSpan(0, (int)came));
            }
            else
            {
                more = came is -Libc.EINTR or -Libc.EAGAIN;
                errno = came < 0 && !more ? (int)-came : 0;
            }
        }
        Libc.Close(file);
        Stop.Check();
        return errno == 0 ? bytes.ToArray() : throw Refused(option, path, errno, code);
    }

    private static Failure Refused(string option, string path, int errno, int code) => Failure.OfFile($"{option} {path}", errno, code);
}
