using System.Runtime.InteropServices;

[assembly: DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories | DllImportSearchPath.AssemblyDirectory)]

namespace ZeroBuffer.Cli;

/// <summary>The system calls of the command. A negative result is the negated error number, unless it says otherwise.</summary>
internal static unsafe partial class Libc
{
    internal const int EINTR = 4;
    internal const int EIO = 5;
    internal const int ENXIO = 6;
    internal const int EAGAIN = 11;
    internal const int ENOMEM = 12;
    internal const int EISDIR = 21;
    internal const int ENFILE = 23;
    internal const int EMFILE = 24;
    internal const int ENOSPC = 28;
    internal const int EPIPE = 32;
    internal const int EDQUOT = 122;

    internal const int ReadOnly = 0;
    internal const int WriteOnly = 1;
    internal const int Create = 0x40;
    internal const int NoTerminal = 0x100;
    internal const int Truncate = 0x200;
    internal const int NonBlocking = 0x800;
    internal const int CloseOnExec = 0x80000;

    internal const short Readable = 1;
    internal const short Writable = 4;

    private const int GetDescriptorFlags = 1;
    private const int GetStatusFlags = 3;
    private const int SetStatusFlags = 4;
    private const int DuplicateCloseOnExec = 1030;
    private const int SetPipeSize = 1031;
    private const int DescriptorIsCloseOnExec = 1;
    private const uint GetWindowSize = 0x5413;
    private const int EmptyPath = 0x1000;
    private const uint StatType = 1;
    private const int StatModeOffset = 28;
    private const int FileTypeBits = 0xf000;

    /// <summary>What a descriptor or a path leads to.</summary>
    internal enum FileType
    {
        Unknown = 0,
        Fifo = 0x1000,
        Directory = 0x4000,
        Regular = 0x8000,
    }

    /// <summary>The text of an error number, as all the command lines print it.</summary>
    internal static string Describe(int errno) => $"{Marshal.GetPInvokeErrorMessage(errno)} (os error {errno})";

    internal static int Open(string path, int flags) => Result(open(path, flags | CloseOnExec, 0x1b6));

    internal static void Close(int file) => _ = close(file);

    /// <summary>Bytes read.</summary>
    internal static nint Read(int file, Span<byte> target)
    {
        fixed (byte* bytes = target)
        {
            return Result(read(file, bytes, (nuint)target.Length));
        }
    }

    /// <summary>Bytes written.</summary>
    internal static nint Write(int file, ReadOnlySpan<byte> source)
    {
        fixed (byte* bytes = source)
        {
            return Result(write(file, bytes, (nuint)source.Length));
        }
    }

    /// <summary>A second descriptor of the same open file, none of the standard streams.</summary>
    internal static int Duplicate(int file) => Result(fcntl(file, DuplicateCloseOnExec, 3));

    /// <summary>Whether the descriptor is open, and was so before this program started: what a runtime opens is closed on exec.</summary>
    internal static bool WasInherited(int file) => fcntl(file, GetDescriptorFlags, 0) is >= 0 and int flags && (flags & DescriptorIsCloseOnExec) == 0;

    internal static void SetBlocking(int file) => _ = fcntl(file, SetStatusFlags, fcntl(file, GetStatusFlags, 0) & ~NonBlocking);

    /// <summary>Asks for larger gulps; what is no pipe, or may not have more, stays as it is.</summary>
    internal static void EnlargePipe(int file) => _ = fcntl(file, SetPipeSize, 1 << 20);

    internal static FileType TypeOf(int file) => Type(file, "", EmptyPath);

    internal static FileType TypeOf(string path) => Type(-100, path, 0);

    /// <summary>Both ends of a new pipe, or a negated error number.</summary>
    internal static int Pipe(out int source, out int target)
    {
        int* ends = stackalloc int[2];
        int result = Result(pipe2(ends, CloseOnExec | NonBlocking));
        (source, target) = (ends[0], ends[1]);
        return result;
    }

    /// <summary>Waits until something can be done with one of the descriptors; a negative one is left out. The number that are ready.</summary>
    internal static int Poll(int first, int second, short events, int milliseconds)
    {
        PollEntry* entries = stackalloc PollEntry[2];
        entries[0] = new PollEntry { File = first, Events = events };
        entries[1] = new PollEntry { File = second, Events = events };
        return Result(poll(entries, 2, milliseconds));
    }

    internal static bool IsTerminal(int file) => isatty(file) != 0;

    /// <summary>The columns of a terminal, 0 if they are not known.</summary>
    internal static int Columns(int file)
    {
        ushort* size = stackalloc ushort[4];
        return ioctl(file, GetWindowSize, size) == 0 ? size[1] : 0;
    }

    /// <summary>Gives a signal its usual effect.</summary>
    internal static void SetDefault(int signalNumber) => _ = signal(signalNumber, 0);

    /// <summary>Ends the process at once: nothing is closed, no finaliser runs.</summary>
    internal static void Exit(int code) => _exit(code);

    private static FileType Type(int folder, string path, int flags)
    {
        byte* status = stackalloc byte[256];
        return statx(folder, path, flags, StatType, status) == 0 ? (FileType)(*(ushort*)(status + StatModeOffset) & FileTypeBits) : FileType.Unknown;
    }

    private static int Result(int result) => result >= 0 ? result : -Marshal.GetLastPInvokeError();

    private static nint Result(nint result) => result >= 0 ? result : -Marshal.GetLastPInvokeError();

    [LibraryImport("libc", StringMarshalling = StringMarshalling.Utf8, SetLastError = true)]
    private static partial int open(string path, int flags, int mode);

    [LibraryImport("libc")]
    private static partial int close(int file);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint read(int file, byte* target, nuint size);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint write(int file, byte* source, nuint size);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int fcntl(int file, int command, int argument);

    [LibraryImport("libc", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int statx(int folder, string path, int flags, uint mask, byte* status);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int pipe2(int* ends, int flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int poll(PollEntry* entries, nuint count, int milliseconds);

    [LibraryImport("libc")]
    private static partial int isatty(int file);

    [LibraryImport("libc")]
    private static partial int ioctl(int file, nuint request, ushort* size);

    [LibraryImport("libc")]
    private static partial nint signal(int number, nint handler);

    [LibraryImport("libc")]
    private static partial void _exit(int code);

    /// <summary><c>struct pollfd</c>, whose last two bytes are not looked at.</summary>
    [StructLayout(LayoutKind.Sequential, Size = 8)]
    private struct PollEntry
    {
        internal int File;
        internal short Events;
    }
}
