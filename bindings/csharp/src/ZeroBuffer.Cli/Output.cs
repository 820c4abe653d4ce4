using System.Globalization;
using System.Text;

namespace ZeroBuffer.Cli;

/// <summary>What commands print: results on standard output, lines for people on standard error.</summary>
internal static class Output
{
    /// <summary>Bytes that a pipe which is ready takes without blocking.</summary>
    private const int Piece = 4096;

    /// <summary>How long a line for people waits for room on standard error.</summary>
    private const int PatienceMs = 100;

    /// <summary>How often a stream without room is looked at.</summary>
    private const int LookMs = 20;

    /// <summary>How long results wait for room on standard output once the end is requested.</summary>
    private const int GraceMs = 500;

    private const string EraseLine = "\r\x1b[K";

    private static readonly object Lock = new();
    private static bool _verbose;

    /// <summary>Whether a progress line is on the terminal.</summary>
    private static bool _progress;

    /// <summary>Whether standard error had no room when last looked at.</summary>
    private static bool _stalled;

    /// <summary>Lines that were dropped because there was no room.</summary>
    private static long _dropped;

    /// <summary>Why standard output failed first; 0 if it has not.</summary>
    private static int _failure;

    /// <summary>Whether what failed was JSON, or any other text for programs.</summary>
    private static bool _forPrograms;

    /// <summary>Whether <see cref="Inform"/> prints.</summary>
    internal static bool IsVerbose
    {
        get => Volatile.Read(ref _verbose);
        set => Volatile.Write(ref _verbose, value);
    }

    /// <summary>Whether standard error is a terminal on which a line can be replaced.</summary>
    internal static bool HasTerminal => Libc.IsTerminal(StandardStreams.Error) && Environment.GetEnvironmentVariable("TERM") != "dumb";

    /// <summary>Prints an error on standard error.</summary>
    internal static void Complain(string message) => Tell("zerobuffer: error: " + message);

    /// <summary>Prints what happens inside on standard error, if the user asks for it (<c>--verbose</c>).</summary>
    internal static void Inform(string message)
    {
        if (IsVerbose)
        {
            Tell("zerobuffer: info: " + message);
        }
    }

    /// <summary>
    /// Prints a line on standard error. Nothing depends on it: a line that cannot be printed is dropped, and a stream that is not read is
    /// waited for only once and only for a moment.
    /// </summary>
    internal static void Tell(string line)
    {
        lock (Lock)
        {
            ClearProgress();
            if (!PutOnError(Shown(line) + "\n"))
            {
                _dropped++;
            }
        }
    }

    /// <summary>Prints a line on standard output. Waits until it is read; a failure decides the exit code (<see cref="ExitCode"/>).</summary>
    internal static void Say(string line)
    {
        lock (Lock)
        {
            ClearProgress();
            PutResult(Shown(line) + "\n", forPrograms: false);
        }
    }

    /// <summary>Prints text of several lines on standard output as it is.</summary>
    internal static void SayText(string text)
    {
        lock (Lock)
        {
            PutResult(text, forPrograms: false);
        }
    }

    /// <summary>Prints a JSON value on standard output, or on standard error.</summary>
    internal static void SayJson(string json, bool toError)
    {
        string text = Replace(json, static point => string.Create(CultureInfo.InvariantCulture, $"\\u{point:x4}")) + "\n";
        lock (Lock)
        {
            ClearProgress();
            if (toError)
            {
                _ = PutAll(StandardStreams.Error, text);
            }
            else
            {
                PutResult(text, forPrograms: true);
            }
        }
    }

    /// <summary>Shows a line on a terminal that the next line replaces.</summary>
    internal static void ShowProgress(string line)
    {
        lock (Lock)
        {
            int columns = Libc.Columns(StandardStreams.Error);
            int width = columns > 1 ? columns - 1 : 79;
            // A terminal that is stopped (Ctrl-S) is not waited for.
            if (HasRoom(StandardStreams.Error, 0))
            {
                string shown = Shown(line);
                _ = PutOnError(EraseLine + shown[..Math.Min(shown.Length, width)]);
                _progress = true;
            }
        }
    }

    /// <summary>Removes the line that <see cref="ShowProgress"/> has left.</summary>
    internal static void ClearProgress()
    {
        lock (Lock)
        {
            if (_progress)
            {
                _progress = false;
                _ = PutOnError(EraseLine);
            }
        }
    }

    /// <summary>The exit code of a command that ends with <paramref name="code"/>, and whose results may not have reached standard output.</summary>
    internal static int ExitCode(int code)
    {
        lock (Lock)
        {
            if (_dropped > 0)
            {
                Tell($"zerobuffer: warn: {_dropped} lines were dropped, because standard error was not read");
            }
            // Who closes a pipe has read enough of a text; a program needs its JSON whole.
            if (_failure == 0 || (_failure == Libc.EPIPE && !_forPrograms))
            {
                return code;
            }
            Complain("cannot write to standard output: " + Libc.Describe(_failure));
            return code == ExitCodes.Ok ? ExitCodes.Unprinted : code;
        }
    }

    /// <summary>Text in which control characters, and characters that change the direction of text, are shown as escapes.</summary>
    private static string Shown(string text) => Replace(
        text,
        static point => point < 0x100
            ? string.Create(CultureInfo.InvariantCulture, $"\\x{point:x2}")
            : string.Create(CultureInfo.InvariantCulture, $"\\u{point:x4}"));

    private static string Replace(string text, Func<int, string> escape)
    {
        var result = new StringBuilder(text.Length);
        foreach (char letter in text)
        {
            bool hidden = char.IsControl(letter)
                || letter is '\u200e' or '\u200f' or (>= '\u202a' and <= '\u202e') or (>= '\u2066' and <= '\u2069');
            if (hidden)
            {
                result.Append(escape(letter));
            }
            else
            {
                result.Append(letter);
            }
        }
        return result.ToString();
    }

    /// <summary>Whether the stream takes some bytes now; waits up to a limit. One that has failed says so when it is written to.</summary>
    private static bool HasRoom(int file, int limitMs)
    {
        int ready;
        do
        {
            ready = Libc.Poll(file, -1, Libc.Writable, limitMs);
        }
        while (ready == -Libc.EINTR);
        return ready != 0;
    }

    /// <summary>Writes a piece; returns the error number, 0 for none.</summary>
    private static int WritePiece(int file, ref ReadOnlySpan<byte> bytes)
    {
        nint written = Libc.Write(file, bytes[..Math.Min(bytes.Length, Piece)]);
        if (written >= 0)
        {
            bytes = bytes[(int)written..];
            return 0;
        }
        return written is -Libc.EINTR or -Libc.EAGAIN ? 0 : (int)-written;
    }

    /// <summary>Writes to standard error what it takes within a moment. Returns whether that was all.</summary>
    private static bool PutOnError(string text)
    {
        ReadOnlySpan<byte> bytes = Encoding.UTF8.GetBytes(text);
        while (!bytes.IsEmpty)
        {
            _stalled = !HasRoom(StandardStreams.Error, _stalled ? 0 : PatienceMs);
            if (_stalled)
            {
                return false;
            }
            if (WritePiece(StandardStreams.Error, ref bytes) != 0)
            {
                // An error that cannot be printed cannot be reported either.
                return true;
            }
        }
        return true;
    }

    /// <summary>Writes to standard output; remembers the first failure.</summary>
    private static void PutResult(string text, bool forPrograms)
    {
        if (_failure == 0)
        {
            _failure = PutAll(StandardStreams.Result, text);
            _forPrograms = forPrograms;
        }
    }

    /// <summary>Writes all of it, however long that takes, unless the end is requested; returns the error number, 0 for none.</summary>
    private static int PutAll(int file, string text)
    {
        int waitedMs = 0;
        ReadOnlySpan<byte> bytes = Encoding.UTF8.GetBytes(text);
        while (!bytes.IsEmpty)
        {
            if (HasRoom(file, LookMs))
            {
                int failed = WritePiece(file, ref bytes);
                if (failed != 0)
                {
                    return failed;
                }
            }
            else if (Stop.IsRequested && (waitedMs += LookMs) > GraceMs)
            {
                return Libc.EAGAIN;
            }
        }
        return 0;
    }
}
