using System.Runtime.InteropServices;

namespace ZeroBuffer.Tests;

/// <summary>However a process ends: nothing hangs, and its buffers are gone. After a kill, the next reader takes the name.</summary>
public sealed class ExitTests
{
    [Theory]
    [InlineData("returns", 0)]
    [InlineData("exit", 7)]
    [InlineData("unhandled", 134)]
    [InlineData("blocked-returns", 0)]
    [InlineData("blocked-exit", 7)]
    [InlineData("blocked-unhandled", 134)]
    public void A_process_that_ends_leaves_nothing(string end, int code)
    {
        string suffix = Names.New("-exit");
        using RunningProgram program = RunningProgram.Example(end, suffix);
        program.Says("there");
        Assert.True(Names.Exists("reader" + suffix));
        program.EndInput();
        Assert.Equal(code, program.End().Code);
        Assert.False(Names.Exists("reader" + suffix));
        Assert.False(Names.Exists("server" + suffix + "_request"));
    }

    /// <summary>Reads, writes, calls and waits that block, awaited ones too, and handlers that do not end.</summary>
    [Theory]
    [InlineData("busy-returns", 0)]
    [InlineData("busy-exit", 7)]
    [InlineData("busy-unhandled", 134)]
    [InlineData("busy-signals", 143)]
    public void A_process_in_which_everything_waits_ends_and_leaves_nothing(string end, int code)
    {
        string suffix = Names.New("-busy");
        using RunningProgram program = RunningProgram.Example(end, suffix);
        Assert.Equal(new[] { "handling", "handling", "there" }, new[] { program.Line(), program.Line(), program.Line() }.Order());
        if (end == "busy-signals")
        {
            Assert.Equal(0, Send(program.Id, 15));
        }
        else
        {
            program.EndInput();
        }
        Assert.Equal(code, program.End().Code);
        foreach (string name in new[] { "reader", "idle", "full", "server" })
        {
            Assert.False(Names.Exists(name + suffix) || Names.Exists(name + suffix + "_request") || Names.Exists(name + suffix + "_response"), name);
        }
    }

    /// <summary>A thread whose call waits when the process ends is not told: an exception that it does not catch would be the end.</summary>
    [Theory]
    [InlineData("uncaught-returns", 0, 0)]
    [InlineData("uncaught-exit", 7, 0)]
    [InlineData("uncaught-unhandled", 134, 1)]
    [InlineData("uncaught-signals", 143, 0)]
    public void A_call_that_waits_at_the_end_of_the_process_does_not_make_it_fail(string end, int code, int exceptions)
    {
        string suffix = Names.New("-uncaught");
        using RunningProgram program = RunningProgram.Example(end, suffix);
        program.Says("there");
        if (end == "uncaught-signals")
        {
            Assert.Equal(0, Send(program.Id, 15));
        }
        else
        {
            program.EndInput();
        }
        (int ended, string errors) = program.End();
        Assert.Equal((code, exceptions), (ended, errors.Split("Unhandled exception").Length - 1));
        Assert.False(Names.Exists("reader" + suffix));
    }

    [Fact]
    public void A_handler_may_end_the_process()
    {
        string suffix = Names.New("-handler");
        using RunningProgram program = RunningProgram.Example("handler-exit", suffix);
        program.Says("there");
        program.EndInput();
        Assert.Equal(9, program.End().Code);
        Assert.False(Names.Exists("reader" + suffix));
        Assert.False(Names.Exists("server" + suffix + "_request"));
        Assert.False(Names.Exists("server" + suffix + "_response"));
    }

    [Theory]
    [InlineData(2)]
    [InlineData(15)]
    [InlineData(1)]
    public void A_signal_closes_everything_where_that_is_asked_for(int signal)
    {
        string suffix = Names.New("-signal");
        using RunningProgram program = RunningProgram.Example("signals", suffix);
        program.Says("there");
        Assert.Equal(0, Send(program.Id, signal));
        int code = program.End().Code;
        Assert.NotEqual(0, code);
        Assert.False(Names.Exists("reader" + suffix));
        Assert.False(Names.Exists("server" + suffix + "_request"));
    }

    [Theory]
    [InlineData(2)]
    [InlineData(15)]
    public void A_host_closes_everything_at_a_signal(int signal)
    {
        string suffix = Names.New("-host");
        using RunningProgram program = RunningProgram.Example("hosted", suffix);
        program.Says("there");
        Assert.True(Names.Exists("reader" + suffix));
        Assert.Equal(0, Send(program.Id, signal));
        Assert.Equal(3, program.End().Code);
        Assert.False(Names.Exists("reader" + suffix));
        Assert.False(Names.Exists("server" + suffix + "_request"));
    }

    /// <summary>From .NET 10 on such a program leaves its buffers behind, as a killed one does; before, it closes them.</summary>
    [Theory]
    [InlineData(2)]
    [InlineData(15)]
    public void A_signal_ends_a_program_that_does_not_care_and_its_names_are_free(int signal)
    {
        string suffix = Names.New("-plain");
        using RunningProgram program = RunningProgram.Example("blocked-returns", suffix);
        program.Says("there");
        Assert.Equal(0, Send(program.Id, signal));
        Assert.NotEqual(0, program.End().Code);
        using var reader = new Reader("reader" + suffix, new BufferConfig(64, 4096));
        using var server = new DuplexChannel.ImmutableDuplexServer("server" + suffix, new BufferConfig(64, 4096));
    }

    [Fact]
    public void A_killed_writer_is_dead_after_its_frames_and_a_killed_readers_name_is_free()
    {
        string suffix = Names.New("-kill");
        string name = "reader" + suffix;
        using (RunningProgram reading = RunningProgram.Example("returns", suffix))
        {
            reading.Says("there");
            reading.Kill();
            reading.End();
        }
        Assert.True(Names.Exists(name));
        using var reader = new Reader(name, new BufferConfig(64, 4096));
        using RunningProgram writing = RunningProgram.Example("writes", suffix);
        writing.Says("there");
        writing.Kill();
        writing.End();
        for (int number = 1; number <= 3; number++)
        {
            Assert.Equal(number, reader.ReadFrame(Eventually.Patience).Data[0]);
        }
        var dead = Assert.Throws<WriterDeadException>(() => reader.ReadFrame(Eventually.Patience));
        Assert.Equal(name, dead.BufferName);
        Assert.False(reader.IsWriterConnected());
        // The server of the first program was killed too.
        using var server = new DuplexChannel.ImmutableDuplexServer("server" + suffix, new BufferConfig(64, 4096));
    }

    [DllImport("libc", EntryPoint = "kill")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int Send(int process, int signal);
}
