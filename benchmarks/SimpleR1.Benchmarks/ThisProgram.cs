namespace SimpleR1.Benchmarks;

/// <summary>This program, for benchmarks that start it again as another process.</summary>
internal static class ThisProgram
{
    /// <summary>Program and first arguments: its executable or <c>dotnet program.dll</c>, the latter too where another program (the tests) uses its code.</summary>
    public static string[] Command { get; } = Find();

    private static string[] Find()
    {
        var program = typeof(ThisProgram).Assembly;
        string running = Environment.ProcessPath ?? "dotnet", name = Path.GetFileNameWithoutExtension(running);
        return name == program.GetName().Name ? [running] : [name == "dotnet" ? running : "dotnet", program.Location];
    }
}
