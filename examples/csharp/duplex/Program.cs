// Request and response: `duplex server NAME` in one terminal, `duplex client NAME` in another.

using System.Text;
using ZeroBuffer;
using ZeroBuffer.DuplexChannel;

switch (args)
{
    case ["server", var name]:
        Serve(name);
        return 0;
    case ["client", var name]:
        Ask(name);
        return 0;
    default:
        Console.Error.WriteLine("usage: duplex server|client NAME");
        return 2;
}

// Answers each request with its text in capitals, until Enter is pressed.
static void Serve(string name)
{
    using IImmutableDuplexServer server = DuplexChannelFactory.Instance.CreateImmutableServer(name, new BufferConfig());
    server.OnError += (_, error) => Console.Error.WriteLine(error.Exception.Message);
    // What is thrown here reaches the client as RequestFailedException; the server goes on.
    server.Start(request => Encoding.UTF8.GetBytes(Encoding.UTF8.GetString(request.Data).ToUpperInvariant()));
    Console.Error.WriteLine($"serving {name}; press Enter to stop");
    Console.In.ReadLine();
}

// Asks three times and prints the answers.
static void Ask(string name)
{
    using IDuplexClient client =
        DuplexChannelFactory.Instance.CreateClient(name, new ClientOptions { ConnectTimeout = TimeSpan.FromSeconds(10) });
    foreach (string text in new[] { "hello", "shared", "memory" })
    {
        using DuplexResponse response = client.Call(Encoding.UTF8.GetBytes(text), TimeSpan.FromSeconds(5));
        Console.WriteLine($"{text} -> {Encoding.UTF8.GetString(response.Data)}");
    }
}
