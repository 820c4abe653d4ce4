namespace ZeroBuffer.Examples;

/// <summary>What the examples leave to the reader.</summary>
internal static class Run
{
    /// <summary>A buffer's name of this run: the test gives the suffix.</summary>
    internal static string Name(string name) => name + Environment.GetEnvironmentVariable("EXAMPLE_SUFFIX");

    /// <summary>Tells the test that a buffer is there.</summary>
    internal static void Say(string line)
    {
        Console.WriteLine(line);
        Console.Out.Flush();
    }
}
