using System.Diagnostics;

namespace ZeroBuffer.Cli;

/// <summary>Progress while a command runs: one line that changes on a terminal, lines otherwise, nothing beside JSON.</summary>
internal sealed class Progress : IDisposable
{
    /// <summary>Time between two changes of the line on a terminal.</summary>
    private static readonly TimeSpan Redraw = TimeSpan.FromMilliseconds(100);

    /// <summary>Time between two lines elsewhere.</summary>
    private static readonly TimeSpan BetweenLines = TimeSpan.FromSeconds(2);

    private readonly string _what;
    private readonly ulong _total;
    private readonly ulong? _every;
    private readonly bool _isSilent;
    private readonly bool _hasTerminal = Output.HasTerminal;
    private long _last = Stopwatch.GetTimestamp();
    private long _lastFrame = Stopwatch.GetTimestamp();
    private ulong _lastBytes;

    /// <summary>Progress of a command.</summary>
    /// <param name="what">What the command does.</param>
    /// <param name="total">The number of frames in all; 0 for no limit.</param>
    /// <param name="options">The command's options.</param>
    /// <param name="every">Frames between two lines where there is no terminal; 0 for none; null for a line every two seconds.</param>
    internal Progress(string what, ulong total, CommandOptions options, ulong? every = null)
    {
        _what = what;
        _total = total;
        _every = every;
        _isSilent = options.JsonOutput;
    }

    /// <summary>Shows how far the command is, if it is time to.</summary>
    internal void Show(Tally tally)
    {
        if (_isSilent)
        {
            return;
        }
        long now = tally.Ended ?? Stopwatch.GetTimestamp();
        _lastFrame = now;
        TimeSpan passed = Stopwatch.GetElapsedTime(_last, now);
        if (!_hasTerminal && _every is ulong every)
        {
            if (every == 0 || tally.Frames % every != 0)
            {
                return;
            }
        }
        else if (passed < (_hasTerminal ? Redraw : BetweenLines))
        {
            return;
        }
        double rate = (tally.Bytes - _lastBytes) / Report.Mebibyte / Math.Max(passed.TotalSeconds, 1e-9);
        _last = now;
        _lastBytes = tally.Bytes;
        string line = $"{Counts(tally)}, {Text.Fixed(rate, 1)} MiB/s";
        if (_hasTerminal)
        {
            Output.ShowProgress(line);
        }
        else
        {
            Output.Tell(line);
        }
    }

    /// <summary>Shows on a terminal what the command waits for.</summary>
    internal void Wait(Tally tally, string what)
    {
        long now = Stopwatch.GetTimestamp();
        if (_isSilent || !_hasTerminal || Stopwatch.GetElapsedTime(_last, now) < Redraw)
        {
            return;
        }
        _last = now;
        _lastBytes = tally.Bytes;
        string start = tally.Frames > 0 ? Counts(tally) + ", " : _what + ": ";
        Output.ShowProgress($"{start}waiting for {what}, {(long)Stopwatch.GetElapsedTime(_lastFrame, now).TotalSeconds} s");
    }

    /// <summary>Removes what is shown.</summary>
    public void Dispose() => Output.ClearProgress();

    private string Counts(Tally tally)
    {
        string total = _total > 0 ? $" of {_total}" : "";
        return $"{_what}: {tally.Frames}{total}{(tally.Frames == 1 && _total == 0 ? " frame, " : " frames, ")}{Text.Human(tally.Bytes)}";
    }
}
