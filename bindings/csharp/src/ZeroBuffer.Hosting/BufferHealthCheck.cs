using Microsoft.Extensions.Diagnostics.HealthChecks;

namespace ZeroBuffer.Hosting;

/// <summary>Whether a buffer is there, and how full it is.</summary>
internal sealed class BufferHealthCheck : IHealthCheck
{
    private readonly string _name;

    internal BufferHealthCheck(string name) => _name = name;

    public Task<HealthCheckResult> CheckHealthAsync(HealthCheckContext context, CancellationToken cancellationToken = default)
    {
        try
        {
            return Task.FromResult(Judge(Inspect.Snapshot(_name), context.Registration.FailureStatus));
        }
        catch (ZeroBufferException error)
        {
            return Task.FromResult(new HealthCheckResult(context.Registration.FailureStatus, error.Message, error));
        }
    }

    private static HealthCheckResult Judge(BufferSnapshot buffer, HealthStatus failure)
    {
        HealthStatus status = buffer.Health switch
        {
            BufferHealth.Healthy => HealthStatus.Healthy,
            BufferHealth.Degraded => HealthStatus.Degraded,
            _ => failure,
        };
        if (buffer.Reader.Presence == Presence.Dead || buffer.Writer.Presence == Presence.Dead)
        {
            status = failure;
        }
        var data = new Dictionary<string, object>(StringComparer.Ordinal)
        {
            ["utilisation"] = buffer.Utilisation,
            ["reader"] = buffer.Reader.Presence.ToString(),
            ["writer"] = buffer.Writer.Presence.ToString(),
        };
        string words = FormattableString.Invariant($"buffer `{buffer.Name}`: {buffer.Utilisation:P0} of the payload in use, reader {buffer.Reader.Presence}, writer {buffer.Writer.Presence}");
        return new HealthCheckResult(status, words, data: data);
    }
}
