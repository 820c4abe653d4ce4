using System.Globalization;
using System.IO.Hashing;

namespace ZeroBuffer.Cli;

/// <summary>What a reader looks at in each frame: its size, its bytes, its checksum.</summary>
internal sealed class Checks
{
    /// <summary>Bytes expected per frame by default.</summary>
    private const ulong DefaultSize = 1024;

    /// <summary>Wrong frames that are told of one by one.</summary>
    private const ulong Told = 10;

    private readonly Pattern? _pattern;

    /// <summary>Null for any size.</summary>
    private readonly ulong? _size;
    private readonly XxHash3? _stream;
    private readonly List<string> _frames = new();

    /// <summary>Whether checksums are printed as they come.</summary>
    private readonly bool _prints;

    /// <summary>Whether they go to standard error, as standard output has the data.</summary>
    private readonly bool _toError;

    internal Checks(ReaderOptionSet options)
    {
        _pattern = options.Verify;
        _size = options.Size switch
        {
            null => _pattern is null ? null : DefaultSize,
            0 => null,
            ulong size => size,
        };
        _stream = options.Checksum ? new XxHash3() : null;
        _prints = !options.JsonOutput;
        _toError = options.HasDataOnStandardOutput;
    }

    /// <summary>Frames that were wrong.</summary>
    internal ulong Wrong { get; private set; }

    /// <summary>The checksums, if they were asked for.</summary>
    internal Checksums? Checksums => _stream is null ? null : new Checksums(Hex(_stream.GetCurrentHashAsUInt64()), _frames);

    /// <summary>Looks at a frame; complains of the first few wrong ones.</summary>
    internal void Check(Frame frame)
    {
        ReadOnlySpan<byte> data = frame.Data;
        // The first frame of a writer has the number 1.
        ulong index = unchecked(frame.Sequence - 1);
        if (Trouble(data, index) is string trouble)
        {
            Wrong++;
            if (Wrong <= Told)
            {
                Output.Complain(trouble);
            }
            if (Wrong == Told)
            {
                Output.Complain("further wrong frames are only counted");
            }
        }
        if (_stream is null)
        {
            return;
        }
        _stream.Append(data);
        string sum = Hex(XxHash3.HashToUInt64(data));
        string line = string.Create(CultureInfo.InvariantCulture, $"frame {index}: {data.Length} bytes, {Cli.Checksums.Algorithm} {sum}");
        if (!_prints)
        {
            _frames.Add(sum);
        }
        else if (_toError)
        {
            Output.Tell(line);
        }
        else
        {
            Output.Say(line);
        }
    }

    private static string Hex(ulong sum) => sum.ToString("x16", CultureInfo.InvariantCulture);

    /// <summary>What is wrong with a frame, if anything is.</summary>
    private string? Trouble(ReadOnlySpan<byte> data, ulong index)
    {
        if (_size is ulong size && size != (ulong)data.Length)
        {
            return $"frame {index} has {data.Length} bytes, {size} were expected";
        }
        return _pattern?.Compare(index, data) is Mismatch wrong
            ? $"frame {index} is wrong: byte {wrong.At} is {wrong.Found}, {wrong.Expected} was expected"
            : null;
    }
}
