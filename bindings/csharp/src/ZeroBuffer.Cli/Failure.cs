namespace ZeroBuffer.Cli;

/// <summary>Why a command ends early, and its exit code.</summary>
internal sealed class Failure : Exception
{
    internal Failure(int code, string message)
        : base(message) => Code = code;

    internal int Code { get; }

    /// <summary>Ctrl-C or SIGTERM.</summary>
    internal static Failure Interrupted() => new(ExitCodes.Interrupted, "interrupted");

    /// <summary>The failure for an error of the library: <paramref name="code"/>, unless the command line was bad.</summary>
    internal static Failure Of(ZeroBufferException error, int code, int badArguments) => error.Kind switch
    {
        ErrorKind.Interrupted => Interrupted(),
        ErrorKind.InvalidName or ErrorKind.InvalidConfig => new Failure(badArguments, error.Message),
        _ => new Failure(code, error.Message),
    };

    /// <summary>
    /// The failure for a file that cannot be opened or read: <paramref name="code"/> if the system ran short of something, else the command
    /// line is bad.
    /// </summary>
    internal static Failure OfFile(string what, int errno, int code)
    {
        bool shortage = errno is Libc.EMFILE or Libc.ENFILE or Libc.ENOMEM or Libc.ENOSPC or Libc.EDQUOT or Libc.EAGAIN or Libc.EIO;
        return new Failure(shortage ? code : ExitCodes.BadArguments, $"{what}: {Libc.Describe(errno)}");
    }

    /// <summary>Does <paramref name="work"/>, whose errors of the library become failures with these codes.</summary>
    internal static T With<T>(int code, int badArguments, Func<T> work)
    {
        try
        {
            return work();
        }
        catch (ZeroBufferException error)
        {
            throw Of(error, code, badArguments);
        }
    }

    /// <inheritdoc cref="With{T}"/>
    internal static void With(int code, int badArguments, Action work) => With(code, badArguments, () =>
    {
        work();
        return true;
    });
}
