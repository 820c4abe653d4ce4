using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Microsoft.Extensions.Hosting;
using ZeroBuffer.DuplexChannel;
using ZeroBuffer.Hosting;

namespace ZeroBuffer.Tests;

/// <summary>Readers, writers and servers as services.</summary>
public sealed class HostingTests
{
    [Fact]
    public async Task A_host_runs_its_servers_and_closes_everything_when_it_stops()
    {
        string buffer = Names.New();
        string channel = Names.New();
        string other = Names.New();
        HostApplicationBuilder builder = Host.CreateEmptyApplicationBuilder(new HostApplicationBuilderSettings());
        builder.Services
            .AddSingleton(new Offset(3))
            .AddZeroBufferReader(buffer, config => config.PayloadSize = 4096)
            .AddZeroBufferWriter(buffer, options => options.WriteTimeout = TimeSpan.FromMilliseconds(20))
            .AddDuplexServer<Adder>(channel, options => options.Config.PayloadSize = 4096)
            .AddDuplexServer<Adder>(other, options =>
            {
                options.Mode = ProcessingMode.ThreadPool;
                options.PoolSize = 2;
            })
            .AddHealthChecks().AddZeroBuffer(buffer);
        using (IHost host = builder.Build())
        {
            await host.StartAsync();
            var reader = host.Services.GetRequiredKeyedService<Reader>(buffer);
            var writer = host.Services.GetRequiredKeyedService<Writer>(buffer);
            Assert.Equal(TimeSpan.FromMilliseconds(20), writer.WriteTimeout);
            var health = host.Services.GetRequiredService<HealthCheckService>();
            Assert.Equal(HealthStatus.Healthy, (await health.CheckHealthAsync()).Status);
            Assert.Throws<BufferFullException>((Action)(() =>
            {
                while (true)
                {
                    writer.WriteFrame(new byte[100]);
                }
            }));
            Assert.Equal(HealthStatus.Unhealthy, (await health.CheckHealthAsync()).Status);
            Assert.True(reader.ReadFrame().IsValid);
            foreach (string name in new[] { channel, other })
            {
                using var client = new DuplexClient(name);
                Assert.Equal(8, client.Call(new byte[] { 5 }, Eventually.Patience).ToArray()[0]);
            }
            await host.StopAsync();
            Assert.False(Names.Exists(channel + "_request"));
        }
        Assert.False(Names.Exists(buffer));
    }

    private sealed record Offset(int Value);

    private sealed class Adder(Offset offset) : IDuplexHandler
    {
        public ReadOnlySpan<byte> Handle(Frame request) => new[] { (byte)(request.Data[0] + offset.Value) };
    }
}
