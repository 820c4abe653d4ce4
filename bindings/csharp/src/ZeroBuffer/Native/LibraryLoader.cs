using System.Reflection;
using System.Runtime.InteropServices;

namespace ZeroBuffer.Native;

/// <summary>Finds the native library, and checks that it speaks the ABI that this assembly was written for.</summary>
internal static unsafe class LibraryLoader
{
    private const string PathVariable = "ZEROBUFFER_LIBRARY";
    private const uint Major = 1;
    private const uint Minor = 5;

    private static readonly object Loading = new();
    private static int _ready;

    /// <summary>Called by everything that makes a handle or takes a snapshot.</summary>
    /// <exception cref="DllNotFoundException">There is no native library, or it is of another version.</exception>
    internal static void Ensure()
    {
        if (Volatile.Read(ref _ready) == 0)
        {
            Load();
        }
    }

    private static void Load()
    {
        lock (Loading)
        {
            if (_ready != 0)
            {
                return;
            }
            NativeLibrary.SetDllImportResolver(typeof(LibraryLoader).Assembly, Resolve);
            Check();
            Volatile.Write(ref _ready, 1);
        }
    }

    private static nint Resolve(string name, Assembly assembly, DllImportSearchPath? searchPath)
    {
        if (!string.Equals(name, Api.Library, StringComparison.Ordinal))
        {
            return 0;
        }
        string? path = Environment.GetEnvironmentVariable(PathVariable);
        // A path that does not work is an error that says so, not a reason to take another library.
        return string.IsNullOrEmpty(path) ? 0 : NativeLibrary.Load(path);
    }

    private static void Check()
    {
        uint version;
        try
        {
            version = Api.zb_abi_version();
        }
        catch (DllNotFoundException error)
        {
            throw new DllNotFoundException(
                $"The native library libzerobuffer_c.so cannot be loaded. The package carries it for linux-x64, in runtimes/<rid>/native; on another "
                + $"system build it (cargo build --release -p zerobuffer-ffi) and put it beside the program, or name it in {PathVariable}. "
                + error.Message,
                error);
        }
        if (version >> 16 != Major || (version & 0xffff) < Minor)
        {
            throw new DllNotFoundException(
                $"libzerobuffer_c.so has ABI version {version >> 16}.{version & 0xffff}, and this assembly needs {Major}.{Minor} or a later {Major}.x: "
                + $"use the native library of the same release, and see that {PathVariable} does not name an older one.");
        }
    }
}
