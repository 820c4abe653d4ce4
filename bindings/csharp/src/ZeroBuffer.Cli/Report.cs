using System.Buffers;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace ZeroBuffer.Cli;

/// <summary>The checksums of a stream.</summary>
/// <param name="Stream">Of all frames' bytes one after the other.</param>
/// <param name="Frames">Of each frame, in the order of arrival.</param>
internal sealed record Checksums(string Stream, IReadOnlyList<string> Frames)
{
    internal const string Algorithm = "xxh3-64";
}

/// <summary>What a command does to frames: the object's first field, the verb of the summary, and the name of the frames' number.</summary>
internal sealed record Operation(string Name, string Done, string Count)
{
    internal static readonly Operation Write = new("write", "wrote", "frames_written");
    internal static readonly Operation Read = new("read", "read", "frames_read");
    internal static readonly Operation Relay = new("relay", "relayed", "frames_relayed");
}

/// <summary>The summary at the end of a command: a line, or a JSON object. Fields that are null do not apply, and are left out.</summary>
internal sealed class Report
{
    internal const double Mebibyte = 1024.0 * 1024.0;

    private readonly Operation _operation;
    private readonly List<string> _errors = new();
    private bool _interrupted;

    internal Report(Operation operation) => _operation = operation;

    internal Tally Tally { get; } = new();

    internal string? BufferName { get; init; }

    internal string? InputBuffer { get; init; }

    internal string? OutputBuffer { get; init; }

    internal ulong? FramesSkipped { get; set; }

    internal ulong FrameSize { get; set; }

    internal ulong MetadataSize { get; set; }

    internal ulong? VerificationErrors { get; set; }

    internal Checksums? Checksums { get; set; }

    internal string? Transform { get; init; }

    internal bool? MetadataRelayed { get; set; }

    internal ulong? FramesShared { get; set; }

    internal ulong? FramesCopied { get; set; }

    internal ulong? FramesLost { get; set; }

    /// <summary>Does a command's work, and enters how that ended; returns the exit code. <paramref name="otherwise"/> is for the unforeseen.</summary>
    internal int Enter(int otherwise, Action work)
    {
        try
        {
            work();
            return ExitCodes.Ok;
        }
        catch (Failure failure) when (failure.Code == ExitCodes.Interrupted)
        {
            _interrupted = true;
            Output.Inform("ended by a signal");
            return failure.Code;
        }
        catch (Exception error)
        {
            Complain(error.Message);
            return error is Failure failure ? failure.Code : otherwise;
        }
    }

    /// <summary>Enters an error, and prints it.</summary>
    internal void Complain(string message)
    {
        Output.Complain(message);
        _errors.Add(message);
    }

    /// <summary>Prints the summary.</summary>
    internal void Print(CommandOptions how, bool toError)
    {
        if (how.JsonOutput)
        {
            Output.SayJson(Json(), toError);
        }
        else if (toError)
        {
            Output.Tell(Summary());
        }
        else
        {
            Output.Say(Summary());
        }
    }

    private string Json()
    {
        var bytes = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(bytes, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            double seconds = Tally.Seconds;
            json.WriteStartObject();
            json.WriteString("operation", _operation.Name);
            WriteText(json, "buffer_name", BufferName);
            WriteText(json, "input_buffer", InputBuffer);
            WriteText(json, "output_buffer", OutputBuffer);
            json.WriteNumber(_operation.Count, Tally.Frames);
            WriteNumber(json, "frames_skipped", FramesSkipped);
            json.WriteNumber("bytes", Tally.Bytes);
            json.WriteNumber("frame_size", FrameSize);
            json.WriteNumber("metadata_size", MetadataSize);
            json.WriteNumber("duration_seconds", seconds);
            json.WriteNumber("throughput_mbps", seconds > 0 ? Tally.Bytes / Mebibyte / seconds : 0);
            WriteNumber(json, "verification_errors", VerificationErrors);
            if (Checksums is not null)
            {
                json.WriteStartObject("checksums");
                json.WriteString("algorithm", Cli.Checksums.Algorithm);
                json.WriteString("stream", Checksums.Stream);
                WriteTexts(json, "frames", Checksums.Frames);
                json.WriteEndObject();
            }
            WriteText(json, "transform", Transform);
            if (MetadataRelayed is bool relayed)
            {
                json.WriteBoolean("metadata_relayed", relayed);
            }
            WriteNumber(json, "frames_shared", FramesShared);
            WriteNumber(json, "frames_copied", FramesCopied);
            WriteNumber(json, "frames_lost", FramesLost);
            json.WriteBoolean("interrupted", _interrupted);
            WriteTexts(json, "errors", _errors);
            json.WriteEndObject();
        }
        return Encoding.UTF8.GetString(bytes.WrittenSpan);
    }

    private string Summary()
    {
        double seconds = Tally.Seconds;
        var text = new StringBuilder();
        text.Append(_operation.Done).Append(' ').Append(Text.Frames(Tally.Frames));
        text.Append(", ").Append(Text.Human(Tally.Bytes)).Append(", in ").Append(Text.Fixed(seconds, 3)).Append(" s");
        if (seconds > 0)
        {
            text.Append(": ").Append(Text.Fixed(Tally.Bytes / Mebibyte / seconds, 1)).Append(" MiB/s, ");
            text.Append(Text.Fixed(Tally.Frames / seconds, 0)).Append(" frames/s");
        }
        if (FramesSkipped is ulong skipped)
        {
            text.Append("; ").Append(skipped).Append(" passed over");
        }
        if (VerificationErrors > 0)
        {
            text.Append("; ").Append(VerificationErrors).Append(" FAILED verification");
        }
        if (MetadataRelayed == true)
        {
            text.Append("; ").Append(MetadataSize).Append(" bytes of metadata relayed");
        }
        if (FramesShared > 0)
        {
            text.Append("; ").Append(FramesShared).Append(" shared, ").Append(FramesCopied).Append(" copied");
        }
        if (FramesLost > 0)
        {
            text.Append("; ").Append(FramesLost).Append(" LOST");
        }
        if (Checksums is not null)
        {
            text.Append("; ").Append(Cli.Checksums.Algorithm).Append(' ').Append(Checksums.Stream);
        }
        if (_interrupted)
        {
            text.Append("; interrupted");
        }
        return text.ToString();
    }

    private static void WriteText(Utf8JsonWriter json, string name, string? value)
    {
        if (value is not null)
        {
            json.WriteString(name, value);
        }
    }

    private static void WriteNumber(Utf8JsonWriter json, string name, ulong? value)
    {
        if (value is ulong number)
        {
            json.WriteNumber(name, number);
        }
    }

    private static void WriteTexts(Utf8JsonWriter json, string name, IEnumerable<string> values)
    {
        json.WriteStartArray(name);
        foreach (string value in values)
        {
            json.WriteStringValue(value);
        }
        json.WriteEndArray();
    }
}
