using SimpleR1.Cluster.Worker;

namespace SimpleR1.Benchmarks;

/// <summary>This program, for benchmarks that start it again as another process.</summary>
internal static class ThisProgram
{
    /// <summary>
    /// Program and first arguments: the executable or <c>dotnet program.dll</c>, the latter also where another program (the tests)
    /// uses this code.
    /// </summary>
    public static string[] Command { get; } = Find();

    /// <summary>
    /// The command that starts this program's workers. NCCL takes each GPU of a host once. Where workers must share GPUs, with each
    /// other or with the trainer, each claims to be on another host. NCCL then sends through sockets, so that its speed shows
    /// nothing.
    /// </summary>
    public static string[] Worker(string device, string? sendDevice, int workers, params string[] arguments)
    {
        var devices = WorkerDevices.Expand(device);
        bool shared =
            sendDevice is not null
            && (devices.Count < workers || devices.Intersect(WorkerDevices.ExpandGpus(sendDevice)).Any());
        return [.. shared ? ["sh", "-c", "NCCL_HOSTID=$$ exec \"$0\" \"$@\""] : (string[])[], .. Command, .. arguments];
    }

    private static string[] Find()
    {
        var program = typeof(ThisProgram).Assembly;
        string running = Environment.ProcessPath ?? "dotnet",
            name = Path.GetFileNameWithoutExtension(running);
        return name == program.GetName().Name
            ? [running]
            : Built(program.GetName().Name!, name == "dotnet" ? running : "dotnet");
    }

    /// <summary>
    /// Program and first arguments of a program next to this one: its library, or, in a bundle for machines without .NET, its
    /// executable.
    /// </summary>
    public static string[] Built(string name, string dotnet = "dotnet") =>
        File.Exists(Path.Combine(AppContext.BaseDirectory, "libcoreclr.so"))
            ? [Path.Combine(AppContext.BaseDirectory, name)]
            : [dotnet, Path.Combine(AppContext.BaseDirectory, name + ".dll")];
}
