using ZeroBuffer.Native;

namespace ZeroBuffer;

/// <summary>
/// A writer with a buffer of its own making, for frames that it forwards: a relay's output that exists before its reader does.
/// </summary>
/// <remarks>
/// It keeps the buffer for a reader that comes later, and offers it the bytes of the source, so that a reader that allows sharing gets
/// frames without a copy from the first one on. If no reader has taken the buffer over when the writer is disposed, it is removed. In all else it is a
/// <see cref="Writer"/>.
/// </remarks>
/// <example>
/// <code>
/// using var input = new Reader("camera", config, allowPayloadSharing: true);
/// using var output = new SharedWriter("display", input);
/// foreach (Frame frame in input.Frames())
/// {
///     output.Forward(frame);
/// }
/// </code>
/// </example>
public sealed unsafe class SharedWriter : Writer
{
    /// <summary>As <see cref="SharedWriter(string, Reader, BufferConfig?, WriterOptions?)"/>, with all defaults.</summary>
    /// <inheritdoc cref="SharedWriter(string, Reader, BufferConfig?, WriterOptions?)"/>
    public SharedWriter(string name, Reader source)
        : this(name, source, config: null, options: null)
    {
    }

    /// <summary>As <see cref="SharedWriter(string, Reader, BufferConfig?, WriterOptions?)"/>, with a mode and a metadata size.</summary>
    /// <inheritdoc cref="SharedWriter(string, Reader, BufferConfig?, WriterOptions?)"/>
    public SharedWriter(string name, Reader source, BufferConfig? config)
        : this(name, source, config, options: null)
    {
    }

    /// <summary>
    /// Creates the buffer <paramref name="name"/>, connects to it, and offers it the payload of <paramref name="source"/>. The buffer is at least as large as
    /// the source's. Both sides share, whatever <paramref name="config"/> and <paramref name="options"/> say about that; if the source does
    /// not allow sharing, frames are copied.
    /// </summary>
    /// <exception cref="ClosedException">The source has been disposed.</exception>
    /// <exception cref="InvalidStateException">Another thread is using the source.</exception>
    /// <exception cref="ZeroBufferException">Those of <see cref="Reader(string, BufferConfig?)"/> and <see cref="Writer(string, WriterOptions?)"/>.</exception>
    public SharedWriter(string name, Reader source, BufferConfig? config, WriterOptions? options)
        : base(WriterHandle.CreateShared(name, HandleOf(source), config, options ?? new WriterOptions()))
    {
    }

    /// <summary>Whether a reader has taken the buffer over.</summary>
    /// <exception cref="ClosedException">The writer has been disposed.</exception>
    /// <exception cref="InvalidStateException">Another thread is using the writer.</exception>
    public bool IsAdopted
    {
        get
        {
            byte adopted = 0;
            void* error = null;
            bool owner = Handle.Enter();
            int status = Api.zb_writer_is_adopted(Handle.Pointer, &adopted, &error);
            Handle.Leave(owner);
            Errors.ThrowIfFailed(status, error);
            return adopted != 0;
        }
    }

    private static ReaderHandle HandleOf(Reader source)
    {
        ArgumentNullException.ThrowIfNull(source);
        return source.Handle;
    }
}
