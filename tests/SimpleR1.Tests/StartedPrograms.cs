using System.Runtime.CompilerServices;

namespace SimpleR1.Tests;

/// <summary>
/// What the programs that tests start are told. They live for seconds, most of them compiling: without the compiler's
/// measurements of what runs often, a worker process takes a quarter less of the processor.
/// </summary>
internal static class StartedPrograms
{
    [ModuleInitializer]
    public static void Prepare() => Environment.SetEnvironmentVariable("DOTNET_TieredPGO", "0");
}
