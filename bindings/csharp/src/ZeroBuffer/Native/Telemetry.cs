using System.Diagnostics;
using System.Diagnostics.Metrics;

namespace ZeroBuffer.Native;

/// <summary>The meter and the activity source, both named <c>ZeroBuffer</c>. They cost nothing unless they are listened to.</summary>
internal static class Telemetry
{
    internal const string Name = "ZeroBuffer";

    private static readonly ActivitySource Source = new(Name);
    private static readonly Meter Meter = new(Name);

    private static readonly Counter<long> Full =
        Meter.CreateCounter<long>("zerobuffer.full", "{write}", "Writes that found no space in time.");

    private static readonly Counter<long> PeerDeaths =
        Meter.CreateCounter<long>("zerobuffer.peer_deaths", "{peer}", "Calls that were told that the peer had died.");

    static Telemetry()
    {
        Meter.CreateObservableCounter("zerobuffer.frames", static () => Measure(frames: true), "{frame}", "Frames read or written.");
        Meter.CreateObservableCounter("zerobuffer.bytes", static () => Measure(frames: false), "By", "Bytes of data read or written.");
        Meter.CreateObservableGauge("zerobuffer.utilisation", Utilisation, "1", "The share of the payload in use, of each buffer that is read here.");
    }

    /// <summary>Makes the instruments, so that a listener finds them.</summary>
    internal static void Ensure()
    {
        // The static constructor has done it.
    }

    internal static Activity? StartCall(string channel)
    {
        if (!Source.HasListeners())
        {
            return null;
        }
        Activity? activity = Source.StartActivity("zerobuffer.call", ActivityKind.Client);
        return activity?.SetTag("zerobuffer.channel", channel);
    }

    internal static Activity? StartRequest(string channel, ulong sequence)
    {
        if (!Source.HasListeners())
        {
            return null;
        }
        Activity? activity = Source.StartActivity("zerobuffer.request", ActivityKind.Server);
        return activity?.SetTag("zerobuffer.channel", channel).SetTag("zerobuffer.sequence", sequence);
    }

    /// <summary>Takes the instruments away, which a global list would keep alive.</summary>
    internal static void Remove()
    {
        Meter.Dispose();
        Source.Dispose();
    }

    /// <summary>Counts an error that is about to be thrown.</summary>
    internal static void Count(ZeroBufferException error)
    {
        Counter<long>? counter = error.Kind switch
        {
            ErrorKind.BufferFull => Full,
            ErrorKind.WriterDead or ErrorKind.ReaderDead => PeerDeaths,
            _ => null,
        };
        counter?.Add(1, new KeyValuePair<string, object?>("zerobuffer.buffer", error.BufferName));
    }

    private static IEnumerable<Measurement<double>> Utilisation()
    {
        foreach (NativeHandle handle in LiveHandles.Snapshot())
        {
            if (handle is ReaderHandle && TryLook(handle.Name) is double share)
            {
                yield return new Measurement<double>(share, new KeyValuePair<string, object?>("zerobuffer.buffer", handle.Name));
            }
        }
    }

    private static double? TryLook(string name)
    {
        try
        {
            return Inspect.Snapshot(name).Utilisation;
        }
        catch (ZeroBufferException)
        {
            // The buffer has gone meanwhile.
            return null;
        }
    }

    private static IEnumerable<Measurement<long>> Measure(bool frames)
    {
        foreach (NativeHandle handle in LiveHandles.Snapshot())
        {
            if (handle.Counters(out ulong counted, out ulong bytes) is string side)
            {
                yield return new Measurement<long>(
                    (long)(frames ? counted : bytes),
                    new KeyValuePair<string, object?>("zerobuffer.buffer", handle.Name),
                    new KeyValuePair<string, object?>("zerobuffer.side", side));
            }
        }
    }
}
