using System.Runtime.InteropServices;

namespace ZeroBuffer.Cli;

/// <summary>What ended a wait.</summary>
internal enum Woken
{
    Ready,
    TimeOut,
    Stopped,
}

/// <summary>An orderly end on Ctrl-C, SIGTERM or a closed terminal, whatever the command waits for.</summary>
internal static class Stop
{
    private static readonly TimeSpan Longest = TimeSpan.FromDays(365);
    private static readonly object Lock = new();
    private static readonly List<Action> Interrupts = new();

    /// <summary>Kept, as a registration that is collected gives its signal up.</summary>
    private static readonly List<PosixSignalRegistration> Registrations = new();

    private static int _requested;

    /// <summary>Readable once the end is requested; the other end.</summary>
    private static int _source = -1;
    private static int _target = -1;

    internal static bool IsRequested => Volatile.Read(ref _requested) != 0;

    /// <summary>Takes over the signals. A second signal ends the process at once.</summary>
    /// <exception cref="Failure">The system refuses, with <paramref name="code"/>.</exception>
    internal static void Install(int code)
    {
        try
        {
            int result = Libc.Pipe(out _source, out _target);
            if (result < 0)
            {
                throw new IOException(Libc.Describe(-result));
            }
            (PosixSignal Signal, int Number)[] signals = [(PosixSignal.SIGHUP, 1), (PosixSignal.SIGINT, 2), (PosixSignal.SIGTERM, 15)];
            foreach ((PosixSignal signal, int number) in signals)
            {
                if (IsIgnored(number))
                {
                    // nohup(1) starts commands with SIGHUP ignored, and that is to stay so. The background jobs of a shell ignore SIGINT,
                    // and are to end by it all the same.
                    if (signal == PosixSignal.SIGHUP)
                    {
                        continue;
                    }
                    Libc.SetDefault(number);
                }
                Registrations.Add(PosixSignalRegistration.Create(signal, OnSignal));
            }
        }
        catch (Exception error)
        {
            throw new Failure(code, "cannot take over the signals: " + error.Message);
        }
    }

    /// <summary>Throws if the end is requested.</summary>
    internal static void Check()
    {
        if (IsRequested)
        {
            throw Failure.Interrupted();
        }
    }

    /// <summary>Has <paramref name="interrupt"/> called when the end is requested.</summary>
    internal static void Watch(Action interrupt)
    {
        lock (Lock)
        {
            Interrupts.Add(interrupt);
            if (IsRequested)
            {
                interrupt();
            }
        }
    }

    /// <summary>Sleeps. Returns whether it slept all the time: false if a request ended the sleep.</summary>
    internal static bool Sleep(TimeSpan time) => Wait(-1, time) == Woken.TimeOut;

    /// <summary>Waits until there is something to read from a file.</summary>
    internal static Woken WaitReadable(int file, TimeSpan limit) => Wait(file, limit);

    private static void OnSignal(PosixSignalContext context)
    {
        context.Cancel = true;
        lock (Lock)
        {
            if (IsRequested)
            {
                Output.ClearProgress();
                Libc.Exit(ExitCodes.Interrupted);
            }
            Volatile.Write(ref _requested, 1);
            Interrupts.ForEach(static interrupt => interrupt());
            // The pipe is never read, so this fails at worst when it is full, and then it is readable anyway.
            _ = Libc.Write(_target, "!"u8);
        }
    }

    private static Woken Wait(int file, TimeSpan limit)
    {
        long end = Environment.TickCount64 + (long)Math.Ceiling((limit < Longest ? limit : Longest).TotalMilliseconds);
        while (true)
        {
            long left = Math.Clamp(end - Environment.TickCount64, 0, 1 << 30);
            int ready = Libc.Poll(_source, file, Libc.Readable, (int)left);
            if (IsRequested)
            {
                return Woken.Stopped;
            }
            if (ready > 0 || (ready < 0 && ready != -Libc.EINTR && file >= 0))
            {
                return Woken.Ready;
            }
            if (Environment.TickCount64 >= end)
            {
                return Woken.TimeOut;
            }
        }
    }

    private static bool IsIgnored(int number)
    {
        const string Field = "SigIgn:";
        string line = File.ReadLines("/proc/self/status").First(line => line.StartsWith(Field, StringComparison.Ordinal));
        return (Convert.ToUInt64(line[Field.Length..].Trim(), 16) >> (number - 1) & 1) != 0;
    }
}
