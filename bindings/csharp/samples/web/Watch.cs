using System.Collections.Concurrent;
using ZeroBuffer;

namespace WebSample;

/// <summary>Awaits the frames of any number of buffers, without a thread for each of them, and tells what came.</summary>
internal sealed class Watch : BackgroundService
{
    private readonly IReadOnlyList<string> _buffers;
    private readonly ConcurrentDictionary<string, Watched> _watched = new();

    public Watch(IReadOnlyList<string> buffers) => _buffers = buffers;

    internal static void Run(IReadOnlyList<string> buffers, string[] arguments)
    {
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder(arguments);
        builder.Services.AddSingleton(_ => new Watch(buffers));
        builder.Services.AddHostedService(services => services.GetRequiredService<Watch>());
        WebApplication application = builder.Build();
        application.MapGet("/buffers", (Watch watch) => Results.Json(watch.All, Json.Default.WatchedArray));
        application.MapGet("/buffers/{name}", (string name, Watch watch) =>
            watch._watched.TryGetValue(name, out Watched? found) ? Results.Json(found, Json.Default.Watched) : Results.NotFound());
        application.Run();
    }

    private Watched[] All => _buffers.Select(name => _watched[name]).ToArray();

    public override Task StartAsync(CancellationToken cancellationToken)
    {
        // The buffers are there before the server listens.
        foreach (string name in _buffers)
        {
            _watched[name] = new Watched(name);
        }
        return base.StartAsync(cancellationToken);
    }

    public override void Dispose()
    {
        foreach (Watched watched in _watched.Values)
        {
            watched.Reader.Dispose();
        }
        base.Dispose();
    }

    protected override Task ExecuteAsync(CancellationToken stoppingToken) =>
        Task.WhenAll(_watched.Values.Select(watched => FollowAsync(watched, stoppingToken)));

    private static async Task FollowAsync(Watched watched, CancellationToken stoppingToken)
    {
        while (true)
        {
            // One writer after the other.
            try
            {
                await foreach (Frame frame in watched.Reader.ReadAllAsync(stoppingToken).ConfigureAwait(false))
                {
                    watched.Add(frame);
                }
            }
            catch (WriterDeadException)
            {
                // The next writer may come.
            }
            catch (OperationCanceledException)
            {
                return;
            }
        }
    }
}

/// <summary>What came through one buffer.</summary>
internal sealed class Watched
{
    internal Watched(string name)
    {
        Name = name;
        Reader = new Reader(name);
    }

    public string Name { get; }

    public long Frames { get; private set; }

    public long Bytes { get; private set; }

    /// <summary>The sum of all bytes, modulo 2^64.</summary>
    public ulong Sum { get; private set; }

    internal Reader Reader { get; }

    internal void Add(Frame frame)
    {
        foreach (byte value in frame.Data)
        {
            Sum += value;
        }
        Bytes += frame.Size;
        Frames++;
    }
}
