using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text.Json;
using ZeroBuffer.DuplexChannel;
using Answer = System.Collections.Generic.Dictionary<string, object>;

namespace ZeroBuffer.Conformance;

/// <summary>A step found something wrong: a kind for the answer, and words.</summary>
internal sealed class StepFailedException(string kind, string message) : Exception(message)
{
    internal string Kind { get; } = kind;
}

/// <summary>Plays steps with one reader, writer, server and client at most.</summary>
internal sealed partial class Peer
{
    private readonly List<Frame> _held = new();
    private Reader? _reader;
    private Writer? _writer;
    private IDuplexClient? _client;
    private IDuplexServer? _server;
    private Events _events = new();

    internal Answer? Play(JsonElement step)
    {
        switch (step.GetProperty("do").GetString()!)
        {
            case "reset":
                Reset();
                return null;
            case "create":
                _reader = new Reader(Text(step, "name"), Config(step));
                return null;
            case "read":
                using (Frame read = Next(step))
                {
                    return read.IsValid ? Describe(read) : None();
                }
            case "latest":
                return Latest(step);
            case "hold":
                return Hold(step);
            case "check":
                return Content.Describe(Held(step).Data, Held(step).Sequence);
            case "release":
                Held(step).Dispose();
                return null;
            case "receive":
                Receive(step);
                return null;
            case "drain":
                while (Next(step).IsValid)
                {
                    // The next read gives the frame back.
                }
                return None();
            case "metadata":
                ReadOnlySpan<byte> metadata = _reader!.GetMetadata();
                return metadata.IsEmpty ? None() : Content.Describe(metadata);
            case "connect":
                _writer = new Writer(Text(step, "name"), Options(step));
                return null;
            case "write":
                _writer!.WriteFrame(Content.Of(step));
                return new Answer { ["written"] = true };
            case "try_write":
                return new Answer { ["written"] = _writer!.TryWriteFrame(Content.Of(step)) };
            case "acquire":
                byte[] data = Content.Of(step);
                _writer!.AcquireFrameBuffer(data.Length, out Span<byte> buffer);
                data.CopyTo(buffer);
                return null;
            case "commit":
                _ = step.TryGetProperty("len", out JsonElement length) ? _writer!.CommitFrame(length.GetInt32()) : _writer!.CommitFrame();
                return null;
            case "discard":
                _writer!.DiscardFrame();
                return null;
            case "send":
                Send(step);
                return null;
            case "set_metadata":
                _writer!.SetMetadata(Content.Of(step));
                return null;
            case "write_timeout":
                _writer!.WriteTimeout = Wait(step, "ms");
                return null;
            case "relay":
                Relay(step);
                return null;
            case "forward":
                return Forward(step);
            case "connected":
                return new Answer { ["connected"] = Connected(step) };
            case "counters":
                return _reader is not null
                    ? new Answer { ["frames"] = _reader.FramesRead, ["bytes"] = _reader.BytesRead }
                    : new Answer { ["frames"] = _writer!.FramesWritten, ["bytes"] = _writer.BytesWritten };
            case "inspect":
                return Shown(Inspect.Snapshot(Text(step, "name")));
            case "defaults":
                return Defaults(Text(step, "name"));
            case "close":
                Close(step);
                return null;
            case "interrupt":
                Interrupt(step);
                return null;
            case "become_user":
                uint user = checked((uint)step.Number("uid", 65534));
                return SetGroup(user) == 0 && SetUser(user) == 0
                    ? null
                    : throw new StepFailedException("Unsupported", "only root can become somebody else");
            case "die":
                Process.GetCurrentProcess().Kill();
                Thread.Sleep(Timeout.Infinite);
                return null;
            default:
                return PlayDuplex(step);
        }
    }

    private static Answer None() => new() { ["none"] = true };

    private static string Text(JsonElement step, string name) => step.GetProperty(name).GetString()!;

    private static TimeSpan Wait(JsonElement step, string name = "timeout_ms", long otherwise = 5000)
    {
        long milliseconds = step.TryGetProperty(name, out JsonElement value) ? value.GetInt64() : otherwise;
        return milliseconds < 0 ? Timeout.InfiniteTimeSpan : TimeSpan.FromMilliseconds(milliseconds);
    }

    private static BufferConfig Config(JsonElement step)
    {
        var config = new BufferConfig { Classic = step.Flag("classic"), AllowPayloadSharing = step.Flag("sharing") };
        if (step.TryGetProperty("payload", out JsonElement payload))
        {
            config.PayloadSize = payload.GetInt64();
        }
        if (step.TryGetProperty("metadata", out JsonElement metadata))
        {
            config.MetadataSize = metadata.GetInt64();
        }
        if (step.TryGetProperty("mode", out JsonElement mode))
        {
            config.Mode = mode.GetInt32();
        }
        return config;
    }

    private static WriterOptions Options(JsonElement step) => new()
    {
        ConnectTimeout = Wait(step, "connect_timeout_ms", 0),
        RequestPayloadSharing = step.Flag("sharing"),
    };

    private static Answer Shown(BufferSnapshot shown) => new()
    {
        ["payload_size"] = shown.PayloadSize,
        ["metadata_size"] = shown.MetadataSize,
        ["reader"] = shown.Reader.Presence.ToString(),
        ["writer"] = shown.Writer.Presence.ToString(),
        ["health"] = shown.Health.ToString(),
    };

    private static Answer Defaults(string name)
    {
        using var reader = new Reader(name);
        using var writer = new Writer(name);
        BufferSnapshot shown = Inspect.Snapshot(name);
        return new Answer
        {
            ["payload_size"] = shown.PayloadSize,
            ["metadata_size"] = shown.MetadataSize,
            ["mode"] = shown.Mode,
            ["write_timeout_ms"] = (long)writer.WriteTimeout.TotalMilliseconds,
        };
    }

    // The C library's functions change the whole process; the system calls would change one thread.
    [DllImport("libc", EntryPoint = "setgid")]
    private static extern int SetGroup(uint gid);

    [DllImport("libc", EntryPoint = "setuid")]
    private static extern int SetUser(uint uid);

    /// <summary>A frame, or an invalid one at the time-out.</summary>
    private Frame Next(JsonElement step) => NoEnd(_reader!.ReadFrame(Wait(step)));

    /// <summary>The end of the stream is an error in answers, as in Rust.</summary>
    private static Frame NoEnd(Frame frame) =>
        frame.EndOfStream ? throw new StepFailedException("WriterClosed", "the end of the stream") : frame;

    private Answer Latest(JsonElement step)
    {
        using Frame frame = NoEnd(_reader!.ReadLatestFrame(Wait(step)));
        if (!frame.IsValid)
        {
            return None();
        }
        Answer answer = Content.Describe(frame.Data, frame.Sequence);
        answer["skipped"] = _reader.FramesSkipped;
        return answer;
    }

    private Frame Held(JsonElement step) => _held[(int)step.Number("which", 0)];

    private Answer Hold(JsonElement step)
    {
        Frame frame = Next(step);
        if (!frame.IsValid)
        {
            return None();
        }
        Frame kept = frame.Retain();
        _held.Add(kept);
        return Describe(kept);
    }

    private static Answer Describe(Frame frame)
    {
        Answer answer = Content.Describe(frame.Data, frame.Sequence);
        answer["shared"] = frame.IsShared;
        return answer;
    }

    private void Receive(JsonElement step)
    {
        ulong number = step.Number("sequence", 1);
        foreach ((ulong seed, int size) in Content.Stream(step))
        {
            using Frame frame = Next(step);
            if (!frame.IsValid)
            {
                throw new StepFailedException("WrongFrame", $"frame {number} did not come");
            }
            if (frame.Sequence != number || !frame.Data.SequenceEqual(Content.Of(seed, size)))
            {
                throw new StepFailedException("WrongFrame", $"frame {number}: got {frame.Sequence} with {frame.Size} bytes");
            }
            number++;
        }
    }

    private void Send(JsonElement step)
    {
        foreach ((ulong seed, int size) in Content.Stream(step))
        {
            byte[] data = Content.Of(seed, size);
            if (seed % 2 == 0)
            {
                _writer!.WriteFrame(data);
            }
            else
            {
                _writer!.AcquireFrameBuffer(size, out Span<byte> buffer);
                data.CopyTo(buffer);
                _writer.CommitFrame();
            }
        }
    }

    private void Relay(JsonElement step)
    {
        for (ulong number = 0; number < step.Number("count", 1); number++)
        {
            using Frame frame = Next(step);
            if (!frame.IsValid)
            {
                throw new StepFailedException("WrongFrame", $"frame {number} did not come");
            }
            _writer!.WriteFrame(frame.Data);
        }
    }

    private Answer Forward(JsonElement step)
    {
        ulong count = step.Number("count", 1);
        ulong shared = 0;
        for (ulong number = 0; number < count; number++)
        {
            Frame frame = Next(step);
            if (!frame.IsValid)
            {
                throw new StepFailedException("WrongFrame", $"frame {number} did not come");
            }
            if (step.Flag("invert"))
            {
                foreach (ref byte value in frame.GetMutableSpan())
                {
                    value = (byte)~value;
                }
            }
            shared += _writer!.Forward(frame) ? 1u : 0u;
        }
        return new Answer { ["shared"] = shared, ["copied"] = count - shared };
    }

    private bool Connected(JsonElement step)
    {
        if (_reader is null)
        {
            return _writer!.IsReaderConnected();
        }
        return step.TryGetProperty("timeout_ms", out _) ? _reader.IsWriterConnected(Wait(step)) : _reader.IsWriterConnected();
    }

    private void Interrupt(JsonElement step)
    {
        if (step.TryGetProperty("of", out JsonElement of) && of.GetString() == "writer")
        {
            _writer?.Interrupt();
        }
        else
        {
            _reader?.Interrupt();
        }
    }

    private void Close(JsonElement step)
    {
        string of = step.TryGetProperty("of", out JsonElement given) ? given.GetString()! : "both";
        if (of != "reader")
        {
            _writer?.Dispose();
            _writer = null;
        }
        if (of != "writer")
        {
            _reader?.Dispose();
            _reader = null;
        }
    }

    private void Reset()
    {
        _held.ForEach(frame => frame.Dispose());
        _held.Clear();
        _client?.Dispose();
        _writer?.Dispose();
        _reader?.Dispose();
        _server?.Dispose();
        _client = null;
        _writer = null;
        _reader = null;
        _server = null;
        _events = new Events();
    }
}
