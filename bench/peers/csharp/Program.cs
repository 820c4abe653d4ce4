// The C# package of this library: plays the roles of ../../src/role.rs, the client of ../../src/duplex, and measures single calls.

using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text.Json;
using ZeroBuffer.Bench;

try
{
    switch (args)
    {
        case ["play", string job]:
            Print(Measured(Roles.Prepare(JobOf(job))));
            return 0;
        case ["play-duplex", string job]:
            Print(Measured(Calls.Prepare(JobOf(job))));
            return 0;
        case ["single-calls"]:
            Print(SingleCalls.Measure());
            return 0;
        default:
            throw new InvalidOperationException("the benchmark driver starts this program");
    }
}
catch (Exception error)
{
    Console.Error.WriteLine(error);
    return 1;
}

static void Print(SortedDictionary<string, double> outcome)
{
    using var stream = new MemoryStream();
    using (var json = new Utf8JsonWriter(stream))
    {
        json.WriteStartObject();
        foreach ((string name, double value) in outcome)
        {
            // The driver takes whole numbers for counts.
            if (value == Math.Floor(value))
            {
                json.WriteNumber(name, (long)value);
            }
            else
            {
                json.WriteNumber(name, value);
            }
        }
        json.WriteEndObject();
    }
    Console.WriteLine(System.Text.Encoding.UTF8.GetString(stream.ToArray()));
}

static Job JobOf(string text)
{
    using JsonDocument json = JsonDocument.Parse(text);
    var job = Job.From(json.RootElement);
    if (job.Cpu is int cpu)
    {
        Processor.KeepTo(cpu);
    }
    return job;
}

// Adds processor time and memory; the connection stands when the work begins.
static SortedDictionary<string, double> Measured(Func<SortedDictionary<string, double>> work)
{
    using Process process = Process.GetCurrentProcess();
    TimeSpan before = process.TotalProcessorTime;
    long start = Stopwatch.GetTimestamp();
    SortedDictionary<string, double> outcome = work();
    TimeSpan wall = Stopwatch.GetElapsedTime(start);
    process.Refresh();
    outcome["cpu_percent"] = (process.TotalProcessorTime - before) / wall * 100;
    outcome["resident_kib"] = process.PeakWorkingSet64 / 1024;
    return outcome;
}

namespace ZeroBuffer.Bench
{
    /// <summary>Keeps the threads of this process to one processor.</summary>
    internal static partial class Processor
    {
        /// <summary>This thread, and those that it starts.</summary>
        internal static unsafe void KeepTo(int cpu)
        {
            const int Words = 16;
            ulong* set = stackalloc ulong[Words];
            new Span<ulong>(set, Words).Clear();
            set[cpu / 64] = 1UL << (cpu % 64);
            if (SetAffinity(0, Words * sizeof(ulong), set) != 0)
            {
                throw new InvalidOperationException($"cannot keep to processor {cpu}");
            }
        }

        [LibraryImport("libc", EntryPoint = "sched_setaffinity")]
        private static unsafe partial int SetAffinity(int thread, nuint size, ulong* set);
    }
}
