using System.Diagnostics;

namespace ZeroBuffer.Tests;

/// <summary>A program that a test started, and ends.</summary>
internal sealed class RunningProgram : IDisposable
{
    private readonly Process _process;
    private readonly Task<string> _errors;

    internal RunningProgram(string program, IEnumerable<string> arguments, string suffix = "", string? folder = null)
    {
        // Who starts the tests in the background, or by nohup(1), has signals ignored, which a program would inherit.
        var start = new ProcessStartInfo("env", arguments.Prepend(program).Prepend("--default-signal=HUP,INT,QUIT,TERM"))
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = folder ?? AppContext.BaseDirectory,
        };
        start.Environment["EXAMPLE_SUFFIX"] = suffix;
        // A runtime that is killed would leave its diagnostic socket behind.
        start.Environment["DOTNET_EnableDiagnostics"] = "0";
        _process = Process.Start(start)!;
        _errors = _process.StandardError.ReadToEndAsync();
    }

    internal int Id => _process.Id;

    /// <summary>A program of the tests, run by the runtime that runs this test.</summary>
    internal static RunningProgram Example(string verb, string suffix, string? folder = null)
    {
        string assembly = Path.Combine(AppContext.BaseDirectory, "ZeroBuffer.Examples.dll");
        return new RunningProgram(DotNet, new[] { "exec", assembly, verb }, suffix, folder);
    }

    /// <summary>The command that started this test, or that of the path.</summary>
    internal static string DotNet => Environment.GetEnvironmentVariable("DOTNET_HOST_PATH")
        ?? (Environment.GetEnvironmentVariable("DOTNET_ROOT") is string root ? Path.Combine(root, "dotnet") : "dotnet");

    internal void Says(string line) => Assert.Equal(line, Line());

    /// <summary>The next line that it prints.</summary>
    internal string Line()
    {
        string? line = Eventually.Result(_process.StandardOutput.ReadLineAsync());
        Assert.True(line is not null, "the program ended");
        return line;
    }

    /// <summary>Ctrl-C.</summary>
    internal void Interrupt()
    {
        using Process kill = Process.Start("kill", new[] { "-INT", _process.Id.ToString(System.Globalization.CultureInfo.InvariantCulture) });
        kill.WaitForExit();
    }

    internal void EndInput() => _process.StandardInput.Close();

    internal void Kill() => _process.Kill();

    /// <summary>The exit code, and what it wrote to standard error.</summary>
    internal (int Code, string Errors) End()
    {
        Assert.True(_process.WaitForExit(Eventually.Patience), "the program did not end");
        return (_process.ExitCode, Eventually.Result(_errors));
    }

    internal void Succeeds() => Assert.Equal((0, ""), End());

    public void Dispose()
    {
        if (!_process.HasExited)
        {
            _process.Kill();
        }
        _process.WaitForExit();
        _process.Dispose();
    }
}
