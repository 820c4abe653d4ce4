using System.Collections.Concurrent;
using System.Diagnostics;
using System.Diagnostics.Metrics;
using Microsoft.Extensions.Logging;
using ZeroBuffer.DuplexChannel;

namespace ZeroBuffer.Tests;

/// <summary>What loggers, listeners of metrics and listeners of activities are told.</summary>
[Collection(Alone.Name)]
public sealed class TelemetryTests
{
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(20);

    [Fact]
    public void Metrics_tell_of_frames_bytes_use_full_buffers_and_dead_peers()
    {
        string name = Names.New();
        using var reader = new Reader(name, new BufferConfig(64, 4096));
        var writer = new Writer(name);
        var seen = new Dictionary<string, double>();
        using var listener = new MeterListener();
        listener.InstrumentPublished = (instrument, self) =>
        {
            if (instrument.Meter.Name == "ZeroBuffer")
            {
                self.EnableMeasurementEvents(instrument);
            }
        };
        void Note(Instrument instrument, double value, ReadOnlySpan<KeyValuePair<string, object?>> tags)
        {
            string key = instrument.Name;
            bool ours = false;
            foreach (KeyValuePair<string, object?> tag in tags)
            {
                ours |= tag.Key == "zerobuffer.buffer" && Equals(tag.Value, name);
                key += tag.Key == "zerobuffer.side" ? " " + tag.Value : "";
            }
            if (ours)
            {
                seen[key] = instrument.IsObservable ? value : seen.GetValueOrDefault(key) + value;
            }
        }

        listener.SetMeasurementEventCallback<long>((instrument, value, tags, _) => Note(instrument, value, tags));
        listener.SetMeasurementEventCallback<double>((instrument, value, tags, _) => Note(instrument, value, tags));
        listener.Start();

        writer.WriteFrame(new byte[1000]);
        writer.WriteFrame(new byte[1000]);
        listener.RecordObservableInstruments();
        Assert.Equal(2, seen["zerobuffer.frames writer"]);
        Assert.Equal(2000, seen["zerobuffer.bytes writer"]);
        Assert.Equal(0, seen["zerobuffer.frames reader"]);
        Assert.InRange(seen["zerobuffer.utilisation"], 0.4, 0.6);
        Assert.True(reader.ReadFrame(Soon).IsValid);
        listener.RecordObservableInstruments();
        Assert.Equal(1, seen["zerobuffer.frames reader"]);
        Assert.Equal(1000, seen["zerobuffer.bytes reader"]);
        Assert.False(seen.ContainsKey("zerobuffer.full"));
        Assert.Throws<BufferFullException>((Action)(() =>
        {
            while (true)
            {
                writer.WriteFrame(new byte[1000], TimeSpan.Zero);
            }
        }));
        Assert.Equal(1, seen["zerobuffer.full"]);
        Assert.False(seen.ContainsKey("zerobuffer.peer_deaths"));
        reader.Dispose();
        Assert.Throws<ReaderDeadException>((Action)(() => writer.WriteFrame(new byte[1000])));
        Assert.Equal(1, seen["zerobuffer.peer_deaths"]);
        writer.Dispose();
    }

    [Fact]
    public async Task Activities_surround_calls_and_handlers()
    {
        string channel = Names.New();
        var ended = new ConcurrentQueue<Activity>();
        using var listener = new ActivityListener
        {
            ShouldListenTo = source => source.Name == "ZeroBuffer",
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllData,
            ActivityStopped = ended.Enqueue,
        };
        ActivitySource.AddActivityListener(listener);
        using var server = new ImmutableDuplexServer(channel, new BufferConfig(64, 4096));
        server.Start(request =>
        {
            Assert.Equal("zerobuffer.request", Activity.Current?.OperationName);
            return request.Data;
        });
        using (var client = new DuplexClient(channel))
        {
            client.Call(new byte[1], Soon).Dispose();
            (await client.CallAsync(new byte[1], Soon)).Dispose();
        }
        server.Stop();
        server.StartAsync(async (request, _) =>
        {
            await Task.Yield();
            Assert.Equal("zerobuffer.request", Activity.Current?.OperationName);
            return request.Memory;
        });
        using var second = new DuplexClient(channel, new ClientOptions { ConnectTimeout = Soon });
        second.Call(new byte[1], Soon).Dispose();
        Eventually.Holds(() => Count("zerobuffer.request") == 3 && Count("zerobuffer.call") == 3);
        Assert.All(ended.Where(IsOurs), activity => Assert.Equal(
            activity.OperationName == "zerobuffer.call" ? ActivityKind.Client : ActivityKind.Server, activity.Kind));

        bool IsOurs(Activity activity) => Equals(activity.GetTagItem("zerobuffer.channel"), channel);
        int Count(string operation) => ended.Count(activity => IsOurs(activity) && activity.OperationName == operation);
    }

    [Fact]
    public void The_librarys_messages_go_to_the_last_logger_and_a_servers_errors_to_its_own()
    {
        string name = Names.New();
        var first = new Recorder<Reader>();
        var last = new Recorder<Writer>();
        var own = new Recorder<ImmutableDuplexServer>();
        using var reader = new Reader(name, new BufferConfig(64, 4096), first);
        FailARequest(own);
        Assert.Contains(first.Messages, message => message.Contains("asked for", StringComparison.Ordinal));
        Assert.Contains(own.Messages, message => message.StartsWith("Error channel `", StringComparison.Ordinal));
        int before = first.Messages.Count;
        using var writer = new Writer(name, options: null, last);
        FailARequest(own);
        Assert.Equal(before, first.Messages.Count);
        Assert.Contains(last.Messages, message => message.StartsWith("Debug ", StringComparison.Ordinal));

        // A logger that throws ends nothing.
        last.Throws = true;
        FailARequest(own);
        last.Throws = false;
        last.Least = LogLevel.Warning;
        before = last.Messages.Count;
        FailARequest(own);
        Assert.Equal(before, last.Messages.Count);
    }

    private static void FailARequest(ILogger<ImmutableDuplexServer> logger)
    {
        using var server = new ImmutableDuplexServer(Names.New(), new BufferConfig(64, 4096), logger);
        server.Start(request => throw new ArgumentException("asked for"));
        using var client = new DuplexClient(server.Channel);
        Assert.Throws<RequestFailedException>(() => client.Call(new byte[1], Soon));
    }

    private sealed class Recorder<T> : ILogger<T>
    {
        internal ConcurrentQueue<string> Messages { get; } = new();

        internal bool Throws { get; set; }

        internal LogLevel Least { get; set; } = LogLevel.Trace;

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => logLevel >= Least;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            if (Throws)
            {
                throw new InvalidOperationException("a logger that does not work");
            }
            Messages.Enqueue($"{logLevel} {formatter(state, exception)}");
        }
    }
}
