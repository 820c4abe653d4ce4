using System.Diagnostics;

namespace ZeroBuffer.Bench;

/// <summary>As <c>Meter</c> of ../../src/stats.rs: looks at the clock with every <c>stride</c>th frame.</summary>
internal sealed class Meter
{
    private static readonly long Window = Stopwatch.Frequency / 500;

    private readonly List<double> _rates = new(4096);
    private readonly long _stride;
    private readonly long _warmAt;
    private long _untilLook;
    private long _start;
    private long _last;
    private long _windowStart;
    private long _frames;
    private long _windowFrames;

    internal Meter(Job job)
    {
        _stride = job.Size <= 4096 ? 32 : 1;
        _untilLook = _stride;
        _warmAt = Stopwatch.GetTimestamp() + (long)(job.WarmUp * Stopwatch.Frequency);
    }

    internal void Frame()
    {
        if (--_untilLook == 0)
        {
            Look();
        }
    }

    internal SortedDictionary<string, double> Finish()
    {
        double wall = (double)(_last - _start) / Stopwatch.Frequency;
        double wallRate = wall > 0 ? _frames / wall : 0;
        _rates.Sort();
        return new SortedDictionary<string, double>
        {
            ["frames"] = _frames,
            ["wall_rate"] = wallRate,
            ["active_rate"] = _rates.Count == 0 ? wallRate : _rates[_rates.Count / 2],
        };
    }

    private void Look()
    {
        _untilLook = _stride;
        long now = Stopwatch.GetTimestamp();
        if (_start == 0)
        {
            if (now >= _warmAt)
            {
                _start = _last = _windowStart = now;
            }
            return;
        }
        _frames += _stride;
        _windowFrames += _stride;
        _last = now;
        if (now - _windowStart >= Window)
        {
            _rates.Add((double)_windowFrames * Stopwatch.Frequency / (now - _windowStart));
            _windowStart = now;
            _windowFrames = 0;
        }
    }
}

/// <summary>Times of single round trips.</summary>
internal sealed class Latencies
{
    private readonly long[] _samples = new long[1 << 22];
    private int _count;

    internal void Add(long ticks)
    {
        if (_count < _samples.Length)
        {
            _samples[_count++] = ticks;
        }
    }

    internal SortedDictionary<string, double> Finish(Job job)
    {
        Array.Sort(_samples, 0, _count);
        double At(double share) =>
            _count == 0 ? 0 : _samples[Math.Min((int)(_count * share), _count - 1)] * 1e6 / Stopwatch.Frequency;
        return new SortedDictionary<string, double>
        {
            ["frames"] = _count,
            ["wall_rate"] = _count / job.Seconds,
            ["p50_us"] = At(0.5),
            ["p90_us"] = At(0.9),
            ["p99_us"] = At(0.99),
            ["p999_us"] = At(0.999),
            ["max_us"] = At(1),
        };
    }
}
