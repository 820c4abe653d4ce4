using ZeroBuffer.Native;

namespace ZeroBuffer.DuplexChannel;

/// <summary>How a duplex client connects and waits, and the response buffer that it creates.</summary>
/// <example>
/// <code>
/// using IDuplexClient client = DuplexChannelFactory.Instance.CreateClient(
///     "image-processing", new ClientOptions { ConnectTimeout = TimeSpan.FromSeconds(10) });
/// </code>
/// </example>
public sealed class ClientOptions
{
    /// <summary>How long sending a request waits for space, and for other threads that send. 5 s by default.</summary>
    public TimeSpan RequestTimeout { get; set; } = TimeSpan.FromMilliseconds(Milliseconds.Default);

    /// <summary>How long connecting waits for a server. Zero by default.</summary>
    public TimeSpan ConnectTimeout { get; set; }

    /// <summary>Sizes and mode of the response buffer; null for the defaults.</summary>
    public BufferConfig? ResponseConfig { get; set; }

    /// <summary>The handle of the C ABI, to be freed by <c>zb_client_options_free</c>.</summary>
    internal unsafe void* ToNative()
    {
        long request = Milliseconds.From(RequestTimeout);
        long connect = Milliseconds.From(ConnectTimeout);
        void* config = ResponseConfig is null ? null : ResponseConfig.ToNative();
        void* options = Api.zb_client_options_new();
        _ = Api.zb_client_options_set_request_timeout(options, request);
        _ = Api.zb_client_options_set_connect_timeout(options, connect);
        _ = Api.zb_client_options_set_response_config(options, config);
        Api.zb_config_free(config);
        return options;
    }
}
