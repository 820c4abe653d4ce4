namespace ZeroBuffer.Cli;

/// <summary>What is told of buffers and their writers.</summary>
internal static class Buffers
{
    /// <summary>
    /// A look at a buffer, if it is asked for what happens inside; null if it cannot be looked at, which is no reason not to use it.
    /// </summary>
    internal static BufferSnapshot? LookAt(string name)
    {
        if (!Output.IsVerbose)
        {
            return null;
        }
        try
        {
            return Inspect.Snapshot(name);
        }
        catch (ZeroBufferException)
        {
            return null;
        }
    }

    /// <summary>Tells of a buffer that has been created.</summary>
    internal static void TellOf(string name)
    {
        if (LookAt(name) is { } buffer)
        {
            Output.Inform(
                $"buffer `{name}`: created with {Text.Human(buffer.PayloadSize)} of payload, {Text.Human(buffer.MetadataSize)} of metadata, mode "
                + $"{Convert.ToString(buffer.Mode, 8).PadLeft(4, '0')}; waiting for a writer");
        }
    }

    /// <summary>Frames longer than a span can be.</summary>
    internal static bool IsTooLarge(ulong size) => size > int.MaxValue;

    /// <summary>The failure for a frame that is longer than a span can be.</summary>
    internal static Failure TooLarge(string name, ulong size, int code) =>
        new(code, $"buffer `{name}`: a frame of {size} bytes is more than this command can take (2 GiB): use `zerobuffer`");
}

/// <summary>Tells of the writers of a buffer that is read.</summary>
internal sealed class Arrivals
{
    private readonly string _name;
    private bool _isWriting;

    internal Arrivals(string name) => _name = name;

    /// <summary>What comes next.</summary>
    internal string Awaited => _isWriting ? "a frame" : "a writer";

    /// <summary>A frame has come.</summary>
    internal void Frame()
    {
        if (_isWriting)
        {
            return;
        }
        _isWriting = true;
        if (Buffers.LookAt(_name) is { } buffer)
        {
            string who = buffer.Writer.ProcessId == 0 ? "" : $" (pid {buffer.Writer.ProcessId})";
            Output.Inform($"buffer `{_name}`: the first frame of the writer{who} has come");
        }
    }

    /// <summary>The writer has ended.</summary>
    internal void End() => _isWriting = false;
}
