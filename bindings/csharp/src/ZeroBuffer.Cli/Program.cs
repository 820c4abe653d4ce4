namespace ZeroBuffer.Cli;

/// <summary>The command <c>zerobuffer-cs</c>. Each command has a file of its own; CommandLine.cs has every option.</summary>
internal static class Program
{
    private static void Main(string[] arguments)
    {
        int code = ExitCodes.Unforeseen;
        try
        {
            StandardStreams.Occupy();
            code = Run(arguments);
            code = Output.ExitCode(code);
        }
        catch (Exception)
        {
            // The process may open so few files that the runtime cannot load what would print the error.
        }
        // Nothing is left to close, but for the output of a relay whose stream is cut: it stays as a dead writer leaves it.
        Libc.Exit(code);
    }

    private static int Run(string[] arguments)
    {
        try
        {
            return CommandLine.Parse(arguments, out int code) is { } command ? command.Run() : code;
        }
        catch (Exception error)
        {
            // Such as an assembly that cannot be loaded.
            Output.Complain(error.Message);
            return ExitCodes.Unforeseen;
        }
    }
}
