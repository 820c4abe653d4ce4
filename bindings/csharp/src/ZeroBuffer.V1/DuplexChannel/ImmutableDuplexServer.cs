extern alias v2;

using Microsoft.Extensions.Logging;
using V2 = v2::ZeroBuffer;

namespace ZeroBuffer.DuplexChannel;

/// <summary>The server that the library makes; see <see cref="IImmutableDuplexServer"/>.</summary>
public sealed class ImmutableDuplexServer : IImmutableDuplexServer
{
    private readonly V2.DuplexChannel.ImmutableDuplexServer _server;
    private V2.DuplexChannel.InitHandler? _onInit;

    /// <summary>Creates the request buffer of the channel and its server.</summary>
    /// <param name="channelName">The channel's name.</param>
    /// <param name="config">Sizes of the request buffer.</param>
    /// <param name="logger">Gets the server's errors.</param>
    /// <param name="timeout">Has no effect: the server learns of its clients as they come and go. 1.x looked for them this often.</param>
    /// <exception cref="ArgumentException">The name or the config cannot be used.</exception>
    /// <exception cref="ReaderAlreadyConnectedException">Another live server has the name.</exception>
    public ImmutableDuplexServer(string channelName, BufferConfig config, ILogger<ImmutableDuplexServer>? logger = null, TimeSpan? timeout = null)
    {
        Errors.CheckName(channelName, nameof(channelName));
        ArgumentNullException.ThrowIfNull(config);
        try
        {
            _server = new V2.DuplexChannel.ImmutableDuplexServer(channelName, config.ToV2());
        }
        catch (V2.ZeroBufferException error)
        {
            throw Errors.ToV1(error);
        }
        _server.OnError += (_, error) =>
        {
            Exception cause = error.Exception.InnerException ?? Errors.ToV1(error.Exception);
            if (logger is not null)
            {
                LogError(logger, channelName, cause);
            }
            OnError?.Invoke(this, new ErrorEventArgs(cause));
        };
    }

    /// <inheritdoc/>
    public event EventHandler<ErrorEventArgs>? OnError;

    /// <inheritdoc/>
    public bool IsRunning => _server.IsRunning;

    private static Action<ILogger, string, Exception?> LogError { get; } =
        LoggerMessage.Define<string>(LogLevel.Error, default, "channel `{Channel}`: an error of the server");

    /// <summary>Waits until a live server has created the channel.</summary>
    /// <returns>False if that did not happen in time.</returns>
    public static bool WaitExists(string channelName, TimeSpan timeout, ILogger? logger = null)
    {
        Errors.CheckName(channelName, nameof(channelName));
        return Reader.WaitExists(channelName + "_request", timeout, logger);
    }

    /// <inheritdoc/>
    public void Start(RequestHandler handler, InitHandler? onInit = null, ProcessingMode mode = ProcessingMode.SingleThread)
    {
        ArgumentNullException.ThrowIfNull(handler);
        if (IsRunning)
        {
            throw new InvalidOperationException("Server is already running");
        }
        // The handlers of a run that was stopped are not those of this one.
        _server.OnInit -= _onInit;
        _onInit = onInit is null ? null : metadata => onInit(metadata);
        _server.OnInit += _onInit;
        string name = _server.Channel + "_response";
        var answers = new ThreadLocal<(AnswerTarget Target, Writer Writer)>(() =>
        {
            var target = new AnswerTarget(name);
            return (target, new Writer(target));
        });
        try
        {
            _server.StartInPlace(
                (request, response) =>
                {
                    (AnswerTarget target, Writer writer) = answers.Value;
                    target.Begin(request.Sequence, response);
                    handler(new Frame(request), writer);
                    target.End();
                },
                (V2.DuplexChannel.ProcessingMode)mode);
        }
        catch (V2.InvalidStateException error)
        {
            throw new InvalidOperationException("Server is already running", error);
        }
        catch (V2.ZeroBufferException error)
        {
            throw Errors.ToV1(error);
        }
    }

    /// <inheritdoc/>
    public void Stop()
    {
        try
        {
            _server.Stop();
        }
        catch (V2.HandlerBusyException)
        {
            // The server has stopped; the handler ends by itself.
        }
        catch (V2.ZeroBufferException error)
        {
            throw Errors.ToV1(error);
        }
    }

    /// <summary>Stops the server, if that was not done.</summary>
    public void Dispose() => _server.Dispose();
}
