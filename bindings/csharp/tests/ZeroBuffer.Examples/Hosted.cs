using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using ZeroBuffer.Hosting;

namespace ZeroBuffer.Examples;

/// <summary>A program with a host, whose reader waits and whose server runs until a signal ends it.</summary>
internal static class Hosted
{
    internal static int Play(string suffix)
    {
        HostApplicationBuilder builder = Host.CreateEmptyApplicationBuilder(new HostApplicationBuilderSettings());
        builder.Services
            .AddZeroBufferReader("reader" + suffix, config => config.PayloadSize = 4096)
            .AddDuplexServer<Echo>("server" + suffix, options => options.Config.PayloadSize = 4096)
            .AddHostedService(provider => new Waiter(provider.GetRequiredKeyedService<Reader>("reader" + suffix)));
        using IHost host = builder.Build();
        host.Start();
        Run.Say("there");
        host.WaitForShutdown();
        return 3;
    }

    private sealed class Echo : IDuplexHandler
    {
        public ReadOnlySpan<byte> Handle(Frame request) => request.Data;
    }

    private sealed class Waiter : BackgroundService
    {
        private readonly Reader _reader;

        internal Waiter(Reader reader) => _reader = reader;

        protected override async Task ExecuteAsync(CancellationToken stoppingToken)
        {
            await foreach (Frame frame in _reader.ReadAllAsync(stoppingToken))
            {
                frame.Dispose();
            }
        }
    }
}
