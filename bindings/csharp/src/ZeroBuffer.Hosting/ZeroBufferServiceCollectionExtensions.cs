using System.Diagnostics.CodeAnalysis;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using ZeroBuffer.DuplexChannel;

namespace ZeroBuffer.Hosting;

/// <summary>Readers, writers and duplex servers as services of a host, which closes them when it stops.</summary>
public static class ZeroBufferServiceCollectionExtensions
{
    /// <summary>
    /// A <see cref="Reader"/> with the buffer's name as its key, created when it is first asked for, such as by
    /// <c>[FromKeyedServices("camera")] Reader reader</c>.
    /// </summary>
    public static IServiceCollection AddZeroBufferReader(this IServiceCollection services, string name, Action<BufferConfig>? configure = null)
    {
        ArgumentNullException.ThrowIfNull(services);
        return services.AddKeyedSingleton(name, (provider, _) =>
        {
            var config = new BufferConfig();
            configure?.Invoke(config);
            return new Reader(name, config, Logger<Reader>(provider));
        });
    }

    /// <summary>
    /// A <see cref="Writer"/> with the buffer's name as its key, which connects when it is first asked for.
    /// </summary>
    public static IServiceCollection AddZeroBufferWriter(this IServiceCollection services, string name, Action<WriterOptions>? configure = null)
    {
        ArgumentNullException.ThrowIfNull(services);
        return services.AddKeyedSingleton(name, (provider, _) =>
        {
            var options = new WriterOptions();
            configure?.Invoke(options);
            return new Writer(name, options, Logger<Writer>(provider));
        });
    }

    /// <summary>
    /// A duplex server that runs from the start of the host to its stop. Its handler, a singleton, may have dependencies.
    /// </summary>
    /// <example>
    /// <code>
    /// builder.Services.AddDuplexServer&lt;UpperCase&gt;("upper-case", options => options.Mode = ProcessingMode.ThreadPool);
    /// </code>
    /// </example>
    public static IServiceCollection AddDuplexServer<[DynamicallyAccessedMembers(DynamicallyAccessedMemberTypes.PublicConstructors)] THandler>(
        this IServiceCollection services, string channelName, Action<DuplexServerOptions>? configure = null)
        where THandler : class, IDuplexHandler
    {
        ArgumentNullException.ThrowIfNull(services);
        // AddHostedService would take the second server for the first.
        return services.AddSingleton<IHostedService>(provider =>
        {
            var options = new DuplexServerOptions();
            configure?.Invoke(options);
            THandler handler = ActivatorUtilities.CreateInstance<THandler>(provider);
            return new DuplexServerService(channelName, options, handler, Logger<ImmutableDuplexServer>(provider));
        });
    }

    /// <summary>
    /// A health check of a buffer, of this process or another: degraded from 80 % of the payload in use, failed from 95 %, where a peer has died, and where
    /// there is no such buffer.
    /// </summary>
    public static IHealthChecksBuilder AddZeroBuffer(
        this IHealthChecksBuilder builder, string name, HealthStatus? failureStatus = null, IEnumerable<string>? tags = null)
    {
        ArgumentNullException.ThrowIfNull(builder);
        return builder.Add(new HealthCheckRegistration("zerobuffer:" + name, new BufferHealthCheck(name), failureStatus, tags));
    }

    private static ILogger<T> Logger<T>(IServiceProvider provider) => provider.GetService<ILogger<T>>() ?? NullLogger<T>.Instance;
}
