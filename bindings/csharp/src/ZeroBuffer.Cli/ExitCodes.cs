namespace ZeroBuffer.Cli;

/// <summary>Exit codes, one table per command.</summary>
internal static class ExitCodes
{
    internal const int Ok = 0;

    /// <summary>A bad command line, for every command but the relay.</summary>
    internal const int BadArguments = 3;

    /// <summary>The command did its work, but what it had to print did not reach standard output.</summary>
    internal const int Unprinted = 5;

    /// <summary>An orderly end on Ctrl-C or SIGTERM.</summary>
    internal const int Interrupted = 130;

    /// <summary>The runtime failed before the command could say how.</summary>
    internal const int Unforeseen = 2;

    internal static class Writer
    {
        internal const int CannotConnect = 1;
        internal const int WriteError = 2;
    }

    internal static class Reader
    {
        internal const int CannotCreate = 1;
        internal const int ReadError = 2;
        internal const int VerificationFailed = 4;
    }

    internal static class Relay
    {
        internal const int InputError = 1;
        internal const int OutputError = 2;
        internal const int RelayError = 3;
        internal const int BadArguments = 4;
    }
}
