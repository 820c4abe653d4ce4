using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;

namespace ZeroBuffer.Soak;

/// <summary>What a peer is told, and the words of shared memory in which it reports: ../ledger.rs.</summary>
internal sealed unsafe class Board
{
    internal const int Ready = 1;
    internal const int Told = 2;
    internal const int Closed = 3;
    internal const int EndClosed = 1;
    internal const int EndDead = 2;

    private const int FutexWait = 0;
    private const int FutexWake = 1;

    private static readonly nint FutexCall = RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? 98 : 202;

    private readonly Dictionary<string, string> _arguments = new();
    private readonly Dictionary<int, nint> _mappings = new();

    /// <summary>Takes <c>name=value</c> arguments, behind the side.</summary>
    internal Board(string[] arguments)
    {
        foreach (string argument in arguments.Skip(1))
        {
            int at = argument.IndexOf('=', StringComparison.Ordinal);
            _arguments[argument[..at]] = argument[(at + 1)..];
        }
        State = (int*)Word("state");
        Order = (int*)Word("order");
        Bell = (int*)Word("bell");
        Ends = (int*)Word("ends");
        LastEnd = (int*)Word("last-end");
        NoticedAt = (long*)Word("noticed-at");
        Committed = (long*)Word("committed");
        Received = (long*)Word("received");
        Failures = (long*)Word("failures");
    }

    internal string Name => _arguments["name"];

    internal bool IsClassic => _arguments["classic"] == "true";

    internal ulong Salt => Number("salt");

    internal ulong Seed => Number("seed");

    /// <summary>Frames whose commit returned.</summary>
    internal long* Committed { get; }

    /// <summary>Requests whose answer came.</summary>
    internal long* Received { get; }

    internal bool IsOrdered => Volatile.Read(ref *Order) != 0;

    private int* State { get; }

    private int* Order { get; }

    private int* Bell { get; }

    private int* Ends { get; }

    private int* LastEnd { get; }

    private long* NoticedAt { get; }

    private long* Failures { get; }

    /// <summary>Adds to one of the sums of all lanes.</summary>
    internal void Add(string name, long number) => Interlocked.Add(ref *(long*)Word(name), number);

    /// <summary>The frames of a writer that were received and right.</summary>
    internal long* ReceivedOf(ulong salt) => (long*)Word("received-of-all") + (salt % Number("salts"));

    /// <summary>Tells the lane how far this peer is.</summary>
    internal void Set(int state)
    {
        Interlocked.Exchange(ref *State, state);
        Ring();
    }

    internal void Ring()
    {
        Interlocked.Increment(ref *Bell);
        _ = Call(FutexCall, Bell, FutexWake, int.MaxValue, null);
    }

    /// <summary>The end of the other side has been noticed.</summary>
    internal void Notice() => Interlocked.Exchange(ref *NoticedAt, Stopwatch.GetTimestamp());

    /// <summary>A writer of this reader has ended.</summary>
    internal void End(int how)
    {
        Notice();
        Interlocked.Exchange(ref *LastEnd, how);
        Interlocked.Increment(ref *Ends);
        Ring();
    }

    /// <summary>The other side's end is told; sleeps until the order to close comes.</summary>
    internal void TellAndAwaitOrder()
    {
        Notice();
        Set(Told);
        AwaitOrder();
    }

    internal void AwaitOrder()
    {
        long* second = stackalloc long[] { 1, 0 };
        while (!IsOrdered)
        {
            _ = Call(FutexCall, Order, FutexWait, 0, second);
        }
    }

    /// <summary>Counts and prints a violation.</summary>
    internal void Fail(Exception error)
    {
        Interlocked.Increment(ref *Failures);
        Console.Error.WriteLine($"FAILURE: {Name}: C#, process {Environment.ProcessId}, {string.Join(' ', Environment.GetCommandLineArgs().Skip(1).Take(3))}: {error}");
    }

    private ulong Number(string name) => ulong.Parse(_arguments[name], CultureInfo.InvariantCulture);

    /// <summary>The address of a word: <c>descriptor:offset</c>.</summary>
    private byte* Word(string name)
    {
        string[] parts = _arguments[name].Split(':');
        int descriptor = int.Parse(parts[0], CultureInfo.InvariantCulture);
        if (!_mappings.TryGetValue(descriptor, out nint start))
        {
            const int ToTheEnd = 2;
            const int ReadAndWrite = 3;
            const int Shared = 1;
            start = Map(0, (nuint)Seek(descriptor, 0, ToTheEnd), ReadAndWrite, Shared, descriptor, 0);
            _mappings[descriptor] = start != -1 ? start : throw new InvalidOperationException($"cannot map descriptor {descriptor}");
        }
        return (byte*)start + int.Parse(parts[1], CultureInfo.InvariantCulture);
    }

    [DllImport("libc", EntryPoint = "mmap")]
    private static extern nint Map(nint address, nuint length, int rights, int flags, int descriptor, nint offset);

    [DllImport("libc", EntryPoint = "lseek")]
    private static extern nint Seek(int descriptor, nint offset, int from);

    [DllImport("libc", EntryPoint = "syscall")]
    private static extern nint Call(nint number, int* word, nint operation, nint value, long* time);
}
