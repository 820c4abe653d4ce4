// A host with a reader, a writer and a duplex server, from the package ZeroBuffer.Hosting alone.

using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using ZeroBuffer;
using ZeroBuffer.DuplexChannel;
using ZeroBuffer.Hosting;

string name = $"zbtest-consumer-hosting-{Environment.ProcessId}";
HostApplicationBuilder builder = Host.CreateEmptyApplicationBuilder(new HostApplicationBuilderSettings());
builder.Services
    .AddZeroBufferReader(name, config => config.PayloadSize = 4096)
    .AddZeroBufferWriter(name)
    .AddDuplexServer<Echo>(name, options => options.Config.PayloadSize = 4096);
using IHost host = builder.Build();
await host.StartAsync();
var reader = host.Services.GetRequiredKeyedService<Reader>(name);
host.Services.GetRequiredKeyedService<Writer>(name).WriteFrame("hello"u8);
if (!reader.ReadFrame().Data.SequenceEqual("hello"u8))
{
    return 1;
}
using (var client = new DuplexClient(name))
{
    if (client.Call(new byte[] { 1, 2 }, TimeSpan.FromSeconds(5)).Size != 2)
    {
        return 2;
    }
}
await host.StopAsync();
return 0;

internal sealed class Echo : IDuplexHandler
{
    public ReadOnlySpan<byte> Handle(Frame request) => request.Data;
}
