using System.Runtime.CompilerServices;

namespace SimpleR1.Tests;

/// <summary>
/// The environment of the programs that tests start. They live for seconds, and compile most of it: without the compiler's
/// measurements of what runs often, a worker process takes a quarter less of the processor.
/// </summary>
internal static class StartedPrograms
{
    [ModuleInitializer]
    public static void Prepare() => Environment.SetEnvironmentVariable("DOTNET_TieredPGO", "0");
}
