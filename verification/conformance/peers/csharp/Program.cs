// The C# peer of the conformance suite, over the package in bindings/csharp. README.md of the suite says what each step is.

using System.Collections.Concurrent;
using System.Text.Json;
using ZeroBuffer;
using ZeroBuffer.Conformance;

// A step may give up the rights to the folder that .NET itself lies in. So everything that the steps need is loaded before.
JsonSerializer.Serialize(new Dictionary<string, object> { ["ok"] = new Dictionary<string, object> { ["text"] = "<&>" } });
string trial = $"zbtest-warm-{Environment.ProcessId}";
using (var reader = new Reader(trial, new BufferConfig(64, 4096)))
using (var writer = new Writer(trial))
{
    writer.WriteFrame(new byte[] { 1 });
    reader.ReadFrame(TimeSpan.FromSeconds(5)).Dispose();
}
try
{
    new Writer(trial).Dispose();
}
catch (BufferNotFoundException)
{
    // As it must be; and errors are loaded too.
}

using var steps = new BlockingCollection<JsonElement>();
var peer = new Peer();
object speaking = new();

void Say(JsonElement id, string key, object answer, string? message = null)
{
    var line = new Dictionary<string, object> { ["id"] = id, [key] = answer };
    if (message is not null)
    {
        line["message"] = message;
    }
    lock (speaking)
    {
        Console.Out.WriteLine(JsonSerializer.Serialize(line));
        Console.Out.Flush();
    }
}

void Play(JsonElement step)
{
    JsonElement id = step.GetProperty("id");
    try
    {
        Say(id, "ok", peer.Play(step) ?? new Dictionary<string, object>());
    }
    catch (StepFailedException error)
    {
        Say(id, "error", error.Kind, error.Message);
    }
    catch (ZeroBufferException error)
    {
        Say(id, "error", error.Kind.ToString(), error.Message);
    }
    catch (Exception error)
    {
        Say(id, "error", error.GetType().Name, error.ToString());
    }
}

var worker = new Thread(() =>
{
    foreach (JsonElement step in steps.GetConsumingEnumerable())
    {
        Play(step);
    }
});
worker.IsBackground = true;
worker.Start();
while (Console.In.ReadLine() is string line)
{
    JsonElement step = JsonDocument.Parse(line).RootElement;
    string verb = step.GetProperty("do").GetString()!;
    if (verb is "interrupt" or "die")
    {
        Play(step);
    }
    else
    {
        steps.Add(step);
    }
}
