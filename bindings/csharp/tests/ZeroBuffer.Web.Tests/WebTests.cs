using System.Diagnostics;
using System.Text.Json;
using SkiaSharp;

namespace ZeroBuffer.Tests;

/// <summary>The web sample: a camera process, the server, and the programs that look at its pictures.</summary>
public sealed class WebTests
{
    private const int Width = 640;
    private const int Height = 360;

    [Fact]
    public async Task The_pictures_of_a_buffer_are_served_with_their_rate_and_latency()
    {
        using var sample = new Sample();
        using var client = new HttpClient { BaseAddress = sample.Address, Timeout = Eventually.Patience };
        Assert.False((await Statistics(client)).GetProperty("connected").GetBoolean());
        sample.StartCamera();
        using Stream stream = await client.GetStreamAsync("pictures");
        for (int number = 0; number < 5; number++)
        {
            using SKBitmap picture = SKBitmap.Decode(await Part(stream));
            Assert.Equal((Width, Height), (picture.Width, picture.Height));
            LooksLikeTheCameras(picture);
        }
        JsonElement figures = await Statistics(client);
        Assert.True(figures.GetProperty("connected").GetBoolean());
        Assert.True(figures.GetProperty("pictures").GetInt64() >= 5);
        Assert.InRange(figures.GetProperty("rate").GetDouble(), 1, 60);
        Assert.InRange(figures.GetProperty("latencyMs").GetDouble(), 0.001, 5000);
        Assert.Contains("<img", await client.GetStringAsync("/"), StringComparison.Ordinal);
    }

    /// <summary>An ASP.NET Core service that awaits the frames of many buffers.</summary>
    [Fact]
    public async Task A_service_awaits_the_frames_of_many_buffers_without_a_thread_for_each()
    {
        const int Frames = 100;
        string[] buffers = Enumerable.Range(0, 100).Select(number => Names.New($"web{number}")).ToArray();
        using RunningProgram server = Start(buffers.Prepend("watch").Concat(new[] { "--urls", "http://127.0.0.1:0" }));
        using var client = new HttpClient { BaseAddress = AddressOf(server), Timeout = Eventually.Patience };
        Writer[] writers = buffers.Select(static name => new Writer(name)).ToArray();
        byte[] data = { 1, 2, 3 };
        for (int frame = 0; frame < Frames; frame++)
        {
            Array.ForEach(writers, writer => writer.WriteFrame(data));
        }
        foreach (string name in buffers)
        {
            JsonElement watched;
            do
            {
                using JsonDocument json = JsonDocument.Parse(await client.GetStringAsync($"buffers/{name}"));
                watched = json.RootElement.Clone();
            }
            while (watched.GetProperty("frames").GetInt64() < Frames);
            Assert.Equal(
                (Frames, Frames * 3, Frames * 6),
                (watched.GetProperty("frames").GetInt64(), watched.GetProperty("bytes").GetInt64(), watched.GetProperty("sum").GetInt64()));
        }
        int threads = Directory.GetDirectories($"/proc/{server.Id}/task").Length;
        Assert.True(threads < buffers.Length, $"{threads} threads for {buffers.Length} buffers");
        using (JsonDocument all = JsonDocument.Parse(await client.GetStringAsync("buffers")))
        {
            Assert.Equal(buffers.Length, all.RootElement.GetArrayLength());
        }
        server.Interrupt();
        Assert.Equal(0, server.End().Code);
        Assert.All(buffers, static name => Assert.False(Names.Exists(name)));
        Array.ForEach(writers, static writer => writer.Dispose());
    }

    /// <summary>Where <c>ZEROBUFFER_CHROMIUM</c> names a Chromium, as <c>cargo xtask test --full csharp</c> sets it.</summary>
    [Fact]
    public void A_browser_shows_the_pictures()
    {
        if (Environment.GetEnvironmentVariable("ZEROBUFFER_CHROMIUM") is not string chromium)
        {
            Assert.Skip("no Chromium is named");
            return;
        }
        using var sample = new Sample();
        sample.StartCamera();
        string folder = Directory.CreateTempSubdirectory("zbtest-").FullName;
        try
        {
            string shot = Path.Combine(folder, "shot.png");
            string[] arguments =
            {
                "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", $"--user-data-dir={folder}/profile",
                $"--window-size={Width},500", "--timeout=50000", $"--screenshot={shot}", sample.Address.ToString(),
            };
            using (var browser = new RunningProgram(chromium, arguments))
            {
                Assert.Equal(0, browser.End().Code);
            }
            if (Environment.GetEnvironmentVariable("ZEROBUFFER_SCREENSHOT") is string copy)
            {
                File.Copy(shot, copy, overwrite: true);
            }
            using SKBitmap page = SKBitmap.Decode(shot);
            LooksLikeTheCameras(page);
            // The figures stand below the picture, in a light colour.
            bool written = Enumerable.Range(Height, 60).Any(row => Enumerable.Range(0, Width).Any(column => page.GetPixel(column, row).Red > 150));
            Assert.True(written, "no figures below the picture");
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>The left half is red, the right half blue.</summary>
    private static void LooksLikeTheCameras(SKBitmap picture)
    {
        foreach (int row in new[] { 5, Height / 2, Height - 5 })
        {
            IsNear(new SKColor(255, 0, 0), picture.GetPixel(20, row));
            IsNear(new SKColor(0, 0, 255), picture.GetPixel(Width - 20, row));
        }
    }

    private static void IsNear(SKColor wanted, SKColor there)
    {
        int Off(Func<SKColor, byte> channel) => Math.Abs(channel(wanted) - channel(there));
        int off = Math.Max(Off(color => color.Red), Math.Max(Off(color => color.Green), Off(color => color.Blue)));
        Assert.True(off < 12, $"{there} instead of {wanted}");
    }

    private static async Task<JsonElement> Statistics(HttpClient client)
    {
        using JsonDocument json = JsonDocument.Parse(await client.GetStringAsync("statistics"));
        return json.RootElement.Clone();
    }

    /// <summary>The next picture of a stream of them.</summary>
    private static async Task<byte[]> Part(Stream stream)
    {
        int length = -1;
        while (true)
        {
            string line = await Line(stream);
            if (line.StartsWith("Content-Length: ", StringComparison.Ordinal))
            {
                length = int.Parse(line["Content-Length: ".Length..], System.Globalization.CultureInfo.InvariantCulture);
            }
            if (line.Length == 0 && length >= 0)
            {
                byte[] picture = new byte[length];
                await stream.ReadExactlyAsync(picture);
                return picture;
            }
        }
    }

    private static async Task<string> Line(Stream stream)
    {
        var line = new System.Text.StringBuilder();
        byte[] next = new byte[1];
        while (true)
        {
            await stream.ReadExactlyAsync(next);
            if (next[0] == '\n')
            {
                return line.ToString().TrimEnd('\r');
            }
            line.Append((char)next[0]);
        }
    }

    private static RunningProgram Start(IEnumerable<string> arguments) =>
        new(RunningProgram.DotNet, new[] { "exec", Path.Combine(AppContext.BaseDirectory, "../../web/debug/web.dll") }.Concat(arguments));

    /// <summary>Where the server listens: on any port that is free, as it tells.</summary>
    private static Uri AddressOf(RunningProgram server)
    {
        const string Listening = "Now listening on: ";
        string line;
        do
        {
            line = server.Line();
        }
        while (!line.Contains(Listening, StringComparison.Ordinal));
        return new Uri(line[(line.IndexOf(Listening, StringComparison.Ordinal) + Listening.Length)..]);
    }

    /// <summary>The two processes of the sample.</summary>
    private sealed class Sample : IDisposable
    {
        private readonly string _name = Names.New("web");
        private readonly RunningProgram _server;
        private RunningProgram? _camera;

        internal Sample()
        {
            _server = Start(new[] { "show", _name, "--urls", "http://127.0.0.1:0" });
            Address = AddressOf(_server);
        }

        internal Uri Address { get; }

        internal void StartCamera() => _camera = Start(new[] { "camera", _name });

        public void Dispose()
        {
            _camera?.Dispose();
            _server.Interrupt();
            _server.End();
            _server.Dispose();
            Assert.False(Names.Exists(_name));
        }
    }
}
