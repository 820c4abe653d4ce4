using System.Reflection;
using ZeroBuffer.DuplexChannel;
using ZeroBuffer.Requested;

namespace ZeroBuffer.Tests;

/// <summary>The examples of the requested API, as they were asked for, run as processes; and its declarations.</summary>
public sealed class RequestedApiTests
{
    [Fact]
    public void The_basic_example_moves_a_frame()
    {
        string suffix = Names.New("-basic");
        using RunningProgram reader = RunningProgram.Example("basic-reader", suffix);
        reader.Says("there");
        using RunningProgram writer = RunningProgram.Example("basic-writer", suffix);
        writer.Says("written");
        writer.Succeeds();
        reader.Says("1 frames");
        reader.Succeeds();
        Assert.False(Names.Exists("buffer-name" + suffix));
    }

    [Fact]
    public void Scenario_1_reads_what_a_producer_of_another_language_writes()
    {
        foreach (string producer in Commands("ZEROBUFFER_CPP_CLI", "ZEROBUFFER_CLI"))
        {
            string suffix = Names.New("-one");
            using RunningProgram consumer = RunningProgram.Example("consumer", suffix);
            consumer.Says("there");
            using var writer = new RunningProgram(producer, new[] { "writer", "video-stream" + suffix, "-n", "1000", "-s", "5000" });
            Assert.Equal(0, writer.End().Code);
            consumer.Says("1000 frames, 5000000 bytes");
            consumer.Succeeds();
        }
    }

    /// <summary>A camera in C++, an enhancer in Python, a display in C#: where those are not built, the command in Rust stands in.</summary>
    [Fact]
    public void Scenario_2_shows_what_two_other_languages_made()
    {
        string suffix = Names.New("-two");
        using RunningProgram display = RunningProgram.Example("display", suffix);
        display.Says("there");
        string raw = "raw-frames" + suffix;
        string enhanced = "enhanced-frames" + suffix;
        string[] relay = { "relay", raw, enhanced, "-n", "100", "--transform", "xor", "--xor-key", "255" };
        string? python = Environment.GetEnvironmentVariable("ZEROBUFFER_PYTHON");
        using RunningProgram enhancer = python is null
            ? new RunningProgram(Commands("ZEROBUFFER_CLI").Single(), relay)
            : new RunningProgram(python, new[] { "-m", "zerobuffer" }.Concat(relay));
        Eventually.Holds(() => Names.Exists(raw));
        using var camera = new RunningProgram(
            Commands("ZEROBUFFER_CPP_CLI", "ZEROBUFFER_CLI").First(), new[] { "writer", raw, "-n", "100", "-s", "100", "--pattern", "zero" });
        Assert.Equal(0, camera.End().Code);
        Assert.Equal(0, enhancer.End().Code);
        display.Says($"100 frames, sum {100 * 100 * 255}");
        display.Succeeds();
    }

    /// <summary>Scenario 3, and the first example of the duplex channels; the server is made by the factory as it was requested.</summary>
    [Fact]
    public void The_duplex_example_gets_its_responses()
    {
        string suffix = Names.New("-three");
        string folder = Directory.CreateTempSubdirectory("zbtest-").FullName;
        try
        {
            File.WriteAllBytes(Path.Combine(folder, "input.jpg"), new byte[] { 1, 2, 3 });
            using RunningProgram server = RunningProgram.Example("duplex-server", suffix);
            server.Says("there");
            using RunningProgram client = RunningProgram.Example("duplex-client", suffix, folder);
            client.Says("True 3");
            client.Succeeds();
            Assert.Equal(new byte[] { 3, 2, 1 }, File.ReadAllBytes(Path.Combine(folder, "output.jpg")));
            server.EndInput();
            server.Succeeds();
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public void Every_requested_member_is_there_with_its_types()
    {
        foreach (Type requested in typeof(Declared).GetNestedTypes())
        {
            Type there = typeof(IDuplexClient).Assembly.GetType("ZeroBuffer.DuplexChannel." + requested.Name, throwOnError: true)!;
            foreach (MethodInfo method in requested.GetMethods(BindingFlags.Public | BindingFlags.Instance | BindingFlags.DeclaredOnly))
            {
                if (method.Name is "BeginInvoke" or "EndInvoke")
                {
                    continue;
                }
                MethodInfo? found = there.GetMethod(method.Name, method.GetParameters().Select(parameter => parameter.ParameterType).ToArray());
                Assert.True(found is not null, $"{there}.{method}");
                Assert.Equal(method.ReturnType, found.ReturnType);
                Assert.Equal(method.GetParameters().Select(parameter => parameter.Name), found.GetParameters().Select(parameter => parameter.Name));
            }
        }
        // Errata: `bool isAsync`, which the request calls "currently ignored", is the processing mode.
        Assert.NotNull(typeof(IImmutableDuplexServer).GetMethod("Start", new[] { typeof(RequestHandler), typeof(ProcessingMode) }));
        Assert.NotNull(typeof(IMutableDuplexServer).GetMethod("Start", new[] { typeof(Action<Frame>), typeof(ProcessingMode) }));
    }

    private static string[] Commands(params string[] variables)
    {
        string[] commands = variables.Select(Environment.GetEnvironmentVariable).Where(path => path is not null).ToArray()!;
        Assert.True(commands.Length > 0, $"{string.Join(" or ", variables)} names a command, as `cargo xtask test csharp` sets it");
        return commands;
    }
}
