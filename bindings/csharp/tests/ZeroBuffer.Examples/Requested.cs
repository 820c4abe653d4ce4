// The C# examples and declarations of the requested API. Each part between "as requested" and "to here" is as it was asked for, but
// for the errata of docs/API.md; what stands around it makes programs of them.

using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using ZeroBuffer;
using ZeroBuffer.DuplexChannel;

namespace ZeroBuffer.Examples
{
    internal static class Requested
    {
        private static int Main(string[] arguments)
        {
            switch (arguments[0])
            {
                case "basic-reader":
                    BasicReader();
                    return 0;
                case "basic-writer":
                    BasicWriter();
                    return 0;
                case "consumer":
                    Consumer();
                    return 0;
                case "display":
                    Display();
                    return 0;
                case "duplex-client":
                    DuplexClient();
                    return 0;
                case "duplex-server":
                    DuplexServer(new ZeroBuffer.Requested.DuplexChannelFactory());
                    return 0;
                default:
                    return Ends.Play(arguments[0]);
            }
        }

        private static void BasicReader()
        {
            int frames = 0;
            // as requested: basic, the reader
            // Reader (creates buffer)
            var config = new BufferConfig(4096, 256*1024*1024);
            using var reader = new Reader("buffer-name", config);

            Run.Say("there");
            // Wait for writer
            if (!reader.IsWriterConnected(30000)) { // 30 second timeout
                // Handle timeout
            }

            // Read frames
            while (true) {
                var frame = reader.ReadFrame(TimeSpan.FromSeconds(5));
                if (!frame.IsValid) break;
    
                // Process frame data
                byte[] data = frame.ToArray();
                // Or access directly: frame.Data, frame.Size
                frames += data.SequenceEqual(frame.Data.ToArray()) && data.Length == frame.Size ? 1 : 0;
            }
            // to here
            Run.Say($"{frames} frames");
        }

        private static void BasicWriter()
        {
            // as requested: basic, the writer
            // Writer (connects to buffer)
            using var writer = new Writer("buffer-name");

            // Configure write timeout (default: 5 seconds)
            writer.WriteTimeout = TimeSpan.FromSeconds(10);

            // Write frames
            byte[] data = new byte[1024];
            writer.WriteFrame(data);
            // to here
            Run.Say("written");
        }

        private static void Consumer()
        {
            int frames = 0;
            long bytes = 0;
            void ProcessFrame(byte[] data)
            {
                frames++;
                bytes += data.Length;
            }

            // as requested: scenario 1, the consumer
            var reader = new Reader("video-stream", new BufferConfig(4096, 256*1024*1024));
            Run.Say("there");
            _ = reader.IsWriterConnected(30000);
            while (reader.IsWriterConnected()) {
                var frame = reader.ReadFrame(TimeSpan.FromSeconds(1));
                if (frame.IsValid) {
                    ProcessFrame(frame.ToArray());
                }
            }
            // to here
            Run.Say($"{frames} frames, {bytes} bytes");
            reader.Dispose();
        }

        private static void Display()
        {
            var config = new BufferConfig(4096, 256*1024*1024);
            // as requested: scenario 2, the display
            var reader = new Reader("enhanced-frames", config);
            // Display frames...
            // to here
            Run.Say("there");
            int frames = 0;
            long sum = 0;
            while (true)
            {
                Frame frame = reader.ReadFrame(TimeSpan.FromSeconds(30));
                if (!frame.IsValid)
                {
                    break;
                }
                frames++;
                foreach (byte value in frame.Data)
                {
                    sum += value;
                }
            }
            Run.Say($"{frames} frames, sum {sum}");
            reader.Dispose();
        }

        private static void DuplexClient()
        {
            // as requested: duplex example 1, the client
            var factory = DuplexChannelFactory.Instance;
            var client = factory.CreateClient("image-processing");

            byte[] imageData = File.ReadAllBytes("input.jpg");

            // Option 1: Send with copy
            ulong sequenceNumber = client.SendRequest(imageData);

            // Option 2: Zero-copy write (no allocations)
            ulong sequenceNumber2 = client.AcquireRequestBuffer(imageData.Length, out Span<byte> buffer);
            imageData.CopyTo(buffer);
            client.CommitRequest();

            // Receive response (could be on different thread)
            var response = client.ReceiveResponse(TimeSpan.FromSeconds(5));

            // Check if this is our response by matching sequence number
            if (response.IsValid && response.Sequence == sequenceNumber)
            {
                File.WriteAllBytes("output.jpg", response.ToArray());
            }
            // to here
            var second = client.ReceiveResponse(TimeSpan.FromSeconds(5));
            Run.Say($"{second.Sequence == sequenceNumber2} {second.Size}");
            client.Dispose();
        }

        private static void DuplexServer(IDuplexChannelFactory factory)
        {
            using IImmutableDuplexServer server = factory.CreateImmutableServer("image-processing", new BufferConfig(4096, 256*1024*1024));
            server.Start(request =>
            {
                byte[] processed = request.ToArray();
                Array.Reverse(processed);
                return processed;
            });
            Run.Say("there");
            Console.In.ReadLine();
        }
    }
}

namespace ZeroBuffer.Requested
{
    // as requested: the factory
    public class DuplexChannelFactory : IDuplexChannelFactory
    {
        private readonly ILoggerFactory _loggerFactory;
    
        // Constructor with optional logger factory for DI
        public DuplexChannelFactory(ILoggerFactory? loggerFactory = null)
        {
            _loggerFactory = loggerFactory ?? NullLoggerFactory.Instance;
        }
    
        public IImmutableDuplexServer CreateImmutableServer(string channelName, BufferConfig config)
        {
            var logger = _loggerFactory.CreateLogger<ImmutableDuplexServer>();
            return new ImmutableDuplexServer(channelName, config, logger);
        }
    
        public IMutableDuplexServer CreateMutableServer(string channelName, BufferConfig config)
        {
            var logger = _loggerFactory.CreateLogger<MutableDuplexServer>();
            return new MutableDuplexServer(channelName, config, logger);
        }
    
        public IDuplexClient CreateClient(string channelName) 
            => new DuplexClient(channelName);
    }
    // to here

    /// <summary>The declarations, to be compared member by member with those of the package.</summary>
    public static class Declared
    {
        // as requested: the interfaces
        // C# Interface
        public interface IDuplexClient : IDisposable
        {
            // Send a request with data copy and return the sequence number for correlation
            // This method returns immediately after writing to the request buffer
            ulong SendRequest(byte[] data);
    
            // Acquire buffer for zero-copy write. Returns sequence number.
            // The buffer parameter will be set to a span pointing to the acquired buffer.
            // Call CommitRequest() after writing to send the request.
            ulong AcquireRequestBuffer(int size, out Span<byte> buffer);
    
            // Commit the request after writing to the acquired buffer
            void CommitRequest();
    
            // Receive a response. This method blocks until a response is available or timeout
            // Returns a DuplexResponse that provides access to sequence number and data
            DuplexResponse ReceiveResponse(TimeSpan timeout);
    
            // Check if server is connected to the request buffer
            bool IsServerConnected { get; }
        }

        // C# Interface
        public interface IDuplexServer : IDisposable
        {
            // Stop processing
            void Stop();
    
            // Check if running
            bool IsRunning { get; }
        }

        // Handler delegate that returns response data as ReadOnlySpan
        public delegate ReadOnlySpan<byte> RequestHandler(Frame request);

        // C# Factory
        public interface IDuplexChannelFactory
        {
            // Create an immutable server (processes immutable requests, returns new response data)
            IImmutableDuplexServer CreateImmutableServer(string channelName, BufferConfig config);
    
            // Create a mutable server (mutates request data in-place)
            IMutableDuplexServer CreateMutableServer(string channelName, BufferConfig config);
    
            // Connect to existing duplex channel (client-side)
            DuplexChannel.IDuplexClient CreateClient(string channelName);
        }
        // to here
    }
}
