using System.Reflection;
using System.Runtime.Versioning;

namespace ZeroBuffer.Tests;

/// <summary>Which assembly the tests beside this one run on.</summary>
public sealed class TargetTests
{
    [Fact]
    public void The_assembly_for_net6_is_the_one_that_is_tested()
    {
        Assembly tested = typeof(Reader).Assembly;
        Assert.Equal(".NETCoreApp,Version=v6.0", tested.GetCustomAttribute<TargetFrameworkAttribute>()!.FrameworkName);
        Assert.Equal(8, Environment.Version.Major);
    }
}
