namespace ZeroBuffer.Cli;

/// <summary>
/// The standard streams that this program was started with. Where one was closed, the runtime may have opened a file of its own under that
/// number before the program began, and that must not be written to.
/// </summary>
internal static class StandardStreams
{
    internal static int Input { get; private set; }

    internal static int Result { get; private set; }

    internal static int Error { get; private set; }

    /// <summary>
    /// Finds out which streams there are. A placeholder stands for each one that is closed, and takes its number if that is free: no file
    /// opened later becomes a standard stream. Called before anything else.
    /// </summary>
    internal static void Occupy()
    {
        Input = Find(0, Libc.WriteOnly);
        Result = Find(1, Libc.ReadOnly);
        Error = Find(2, Libc.ReadOnly);
    }

    /// <summary>The stream, or a placeholder in the wrong direction: every use fails as that of a closed descriptor.</summary>
    private static int Find(int file, int wrong) => Libc.WasInherited(file) ? file : Libc.Open("/dev/null", wrong);
}
