using Microsoft.Extensions.Logging;

namespace ZeroBuffer.Cli;

/// <summary>Shows what the library logs: warnings always, the rest with <c>--verbose</c>.</summary>
internal sealed class StandardErrorLogger : ILogger<Reader>, ILogger<Writer>
{
    internal static readonly StandardErrorLogger Instance = new();

    private StandardErrorLogger()
    {
    }

    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => null;

    public bool IsEnabled(LogLevel logLevel) => logLevel >= (Output.IsVerbose ? LogLevel.Debug : LogLevel.Warning);

    public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
    {
        string level = logLevel switch
        {
            LogLevel.Critical or LogLevel.Error => "error",
            LogLevel.Warning => "warn",
            LogLevel.Information => "info",
            LogLevel.Debug => "debug",
            _ => "trace",
        };
        Output.Tell($"zerobuffer: {level}: {Message(state) ?? formatter(state, exception)}");
    }

    /// <summary>The library's own words, without the part of it that said them.</summary>
    private static string? Message(object? state) =>
        (state as IEnumerable<KeyValuePair<string, object?>>)?.FirstOrDefault(static pair => pair.Key == "Message").Value as string;
}
