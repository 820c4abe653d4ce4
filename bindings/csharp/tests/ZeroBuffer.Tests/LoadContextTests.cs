using System.Reflection;
using System.Runtime.CompilerServices;
using System.Runtime.Loader;
using ZeroBuffer.DuplexChannel;

namespace ZeroBuffer.Tests;

/// <summary>The assembly in load contexts that are unloaded, with a logger set and with handles left open.</summary>
[Collection(Alone.Name)]
public sealed class LoadContextTests
{
    [Fact]
    public void A_context_can_be_loaded_and_unloaded_ten_times_with_a_logger_set()
    {
        for (int round = 0; round < 10; round++)
        {
            string name = Names.New("plugin");
            WeakReference context = Play(name);
            AssertGone(context, name);
        }
        FailARequest();
    }

    [Fact]
    public void Two_contexts_at_once_have_a_logger_each()
    {
        string one = Names.New("plugin");
        string other = Names.New("plugin");
        (WeakReference first, WeakReference second) = PlayBoth(one, other);
        AssertGone(first, one);
        AssertGone(second, other);
        FailARequest();
    }

    /// <summary>The library logs this: to nothing that has gone.</summary>
    private static void FailARequest()
    {
        using var server = new ImmutableDuplexServer(Names.New(), new BufferConfig(64, 4096));
        server.Start(request => throw new ArgumentException("asked for"));
        using var client = new DuplexClient(server.Channel);
        Assert.Throws<RequestFailedException>(() => client.Call(new byte[1], Eventually.Patience));
    }

    private static void AssertGone(WeakReference context, string name)
    {
        Eventually.Holds(() =>
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
            return !context.IsAlive;
        });
        Assert.False(Names.Exists(name));
        Assert.False(Names.Exists(name + "-server_request"));
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static WeakReference Play(string name)
    {
        var context = new PluginContext();
        Assert.True(context.Play(name) > 0, "the library logged nothing");
        context.Unload();
        return new WeakReference(context);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static (WeakReference One, WeakReference Other) PlayBoth(string one, string other)
    {
        var first = new PluginContext();
        var second = new PluginContext();
        Assert.True(first.Play(one) > 0, "the library logged nothing");
        Assert.True(second.Play(other) > 0, "the library logged nothing");
        first.Unload();
        Assert.True(second.Play(other + "-again") > 0, "the unloading of another context took the logger away");
        second.Unload();
        return (new WeakReference(first), new WeakReference(second));
    }

    /// <summary>Has assemblies of the package of its own, and shares what they rest on.</summary>
    private sealed class PluginContext : AssemblyLoadContext
    {
        internal PluginContext()
            : base(isCollectible: true)
        {
        }

        internal int Play(string name)
        {
            Type plugin = LoadFromAssemblyName(new AssemblyName("ZeroBuffer.Examples")).GetType("ZeroBuffer.Examples.Plugin", throwOnError: true)!;
            Assert.NotSame(typeof(Reader).Assembly, LoadFromAssemblyName(new AssemblyName("ZeroBuffer")));
            return (int)plugin.GetMethod("Play")!.Invoke(null, new object[] { name })!;
        }

        protected override Assembly? Load(AssemblyName assemblyName)
        {
            string path = Path.Combine(AppContext.BaseDirectory, assemblyName.Name + ".dll");
            return assemblyName.Name!.StartsWith("ZeroBuffer", StringComparison.Ordinal) ? LoadFromAssemblyPath(path) : null;
        }
    }
}
