using System.Diagnostics;
using System.Text;
using System.Text.Json;
using ZeroBuffer.DuplexChannel;
using Answer = System.Collections.Generic.Dictionary<string, object>;

namespace ZeroBuffer.Conformance;

/// <summary>What handlers and callbacks have done.</summary>
internal sealed class Events
{
    private int _started;
    private int _ended;
    private int _failed;
    private byte[] _init = [];

    internal void Failed() => Change(() => _failed++);

    internal void Init(ReadOnlySpan<byte> metadata)
    {
        byte[] copy = metadata.ToArray();
        Change(() => _init = copy);
    }

    /// <summary>The part of a handler that both kinds have: orders.</summary>
    internal string Obey(Frame request)
    {
        string order = request.Size < 16 ? Encoding.Latin1.GetString(request.Data) : "";
        Change(() => _started++);
        if (order == "!wait")
        {
            // A handler is not told that it is cancelled: it asks.
            for (var clock = Stopwatch.StartNew(); !request.IsCancelled && clock.Elapsed < TimeSpan.FromSeconds(20);)
            {
                Thread.Sleep(1);
            }
        }
        Change(() => _ended++);
        if (order == "!fail")
        {
            throw new InvalidOperationException("as ordered");
        }
        if (order == "!die")
        {
            Process.GetCurrentProcess().Kill();
            Thread.Sleep(Timeout.Infinite);
        }
        return order;
    }

    internal Answer Await(JsonElement step, TimeSpan timeout)
    {
        lock (this)
        {
            var clock = Stopwatch.StartNew();
            while ((ulong)_started < step.Number("started", 0) || (ulong)_ended < step.Number("ended", 0)
                || (ulong)_failed < step.Number("failed", 0) || (step.Flag("init") && _init.Length == 0))
            {
                TimeSpan left = timeout - clock.Elapsed;
                if (left <= TimeSpan.Zero || !Monitor.Wait(this, left))
                {
                    throw new StepFailedException("TooFew", $"{_started} started, {_ended} ended, {_failed} failed");
                }
            }
            return Content.Describe(_init);
        }
    }

    private void Change(Action change)
    {
        lock (this)
        {
            change();
            Monitor.PulseAll(this);
        }
    }
}

/// <content>Steps of duplex channels.</content>
internal sealed partial class Peer
{
    private static readonly DuplexChannelFactory Factory = DuplexChannelFactory.Instance;

    private Answer? PlayDuplex(JsonElement step)
    {
        switch (step.GetProperty("do").GetString()!)
        {
            case "serve":
                Serve(step);
                return null;
            case "handled":
                return _events.Await(step, Wait(step));
            case "running":
                return new Answer { ["running"] = _server!.IsRunning };
            case "stop":
                _server!.Stop();
                return null;
            case "dial":
                _client = Factory.CreateClient(
                    Text(step, "channel"),
                    new ClientOptions { ResponseConfig = Config(step), ConnectTimeout = Wait(step, "connect_timeout_ms", 0) });
                return null;
            case "call":
                using (DuplexResponse called = _client!.Call(Content.Of(step), Wait(step)))
                {
                    return Content.Describe(called.Data, called.Sequence);
                }
            case "request":
                return new Answer { ["sequence"] = Request(step) };
            case "response":
                using (DuplexResponse response = step.TryGetProperty("to", out JsonElement to)
                    ? _client!.ReceiveResponseTo(to.GetUInt64(), Wait(step))
                    : _client!.ReceiveResponse(Wait(step)))
                {
                    return response.IsValid ? Content.Describe(response.Data, response.Sequence) : None();
                }
            case "cancel":
                return new Answer { ["cancelled"] = _client!.CancelRequest(step.GetProperty("sequence").GetUInt64()) };
            case "describe":
                _client!.SetMetadata(Content.Of(step));
                return null;
            case "server_connected":
                return new Answer { ["connected"] = _client!.IsServerConnected };
            case "hang_up":
                _client!.Dispose();
                _client = null;
                return null;
            case var verb:
                throw new StepFailedException("Unsupported", $"no step `{verb}`");
        }
    }

    private ulong Request(JsonElement step)
    {
        byte[] data = Content.Of(step);
        if (!step.Flag("in_place"))
        {
            return _client!.SendRequest(data);
        }
        ulong sequence = _client!.AcquireRequestBuffer(data.Length, out Span<byte> buffer);
        data.CopyTo(buffer);
        _client.CommitRequest();
        return sequence;
    }

    private void Serve(JsonElement step)
    {
        Events events = _events;
        ProcessingMode mode = step.Flag("pool") ? ProcessingMode.ThreadPool : ProcessingMode.SingleThread;
        if (step.Flag("mutable"))
        {
            IMutableDuplexServer server = Factory.CreateMutableServer(Text(step, "channel"), Config(step));
            Prepare(server, events, step);
            server.Start(
                request =>
                {
                    events.Obey(request);
                    foreach (ref byte value in request.GetMutableSpan())
                    {
                        value ^= 0xff;
                    }
                },
                mode);
        }
        else
        {
            IImmutableDuplexServer server = Factory.CreateImmutableServer(Text(step, "channel"), Config(step));
            Prepare(server, events, step);
            if (step.Flag("in_place"))
            {
                server.StartInPlace(
                    (request, response) =>
                    {
                        Span<byte> bytes = response.Acquire(request.Size);
                        string? order = events.Obey(request);
                        request.Data.CopyTo(bytes);
                        bytes.Reverse();
                        if (order != "!forget")
                        {
                            response.Commit(order == "!empty" ? 0 : request.Size);
                        }
                    },
                    mode);
                return;
            }
            server.Start(
                request =>
                {
                    if (events.Obey(request) == "!empty")
                    {
                        return default;
                    }
                    byte[] answer = request.ToArray();
                    Array.Reverse(answer);
                    return answer;
                },
                mode);
        }
    }

    private void Prepare(IDuplexServer server, Events events, JsonElement step)
    {
        _server = server;
        server.OnError += (_, _) => events.Failed();
        server.OnInit += events.Init;
        if (step.TryGetProperty("threads", out JsonElement threads))
        {
            server.SetPoolSize(threads.GetInt32());
        }
    }
}
