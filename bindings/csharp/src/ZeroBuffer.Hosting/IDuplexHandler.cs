namespace ZeroBuffer.Hosting;

/// <summary>Answers the requests of a duplex server: see <see cref="ZeroBufferServiceCollectionExtensions.AddDuplexServer{THandler}"/>.</summary>
/// <example>
/// <code>
/// internal sealed class UpperCase : IDuplexHandler
/// {
///     public ReadOnlySpan&lt;byte&gt; Handle(Frame request) => Encoding.UTF8.GetBytes(Encoding.UTF8.GetString(request.Data).ToUpperInvariant());
/// }
/// </code>
/// </example>
public interface IDuplexHandler
{
    /// <summary>Answers a request, which is valid during the call. What it throws fails the request.</summary>
    ReadOnlySpan<byte> Handle(Frame request);
}
