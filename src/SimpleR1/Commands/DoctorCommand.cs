using System.CommandLine;
using System.Diagnostics;
using System.Runtime.Intrinsics;
using SimpleR1.Tensors;
using static TorchSharp.torch;

namespace SimpleR1.Commands;

internal static class DoctorCommand
{
    public static Command Create()
    {
        var device = new Option<string>("--device")
        {
            Description =
                "cpu, or cuda to load the CUDA build of a PyTorch on this machine (SIMPLE_R1_TORCH names its lib folder)",
            DefaultValueFactory = _ => "cpu",
        };
        device.AcceptOnlyFromAmong("cpu", "cuda");
        var command = new Command("doctor", "Check that this machine can run: libtorch, threads, vector width, memory")
        {
            device,
        };
        command.SetAction(
            (parse, _) =>
                CommandErrors.RunAsync(() =>
                {
                    bool gpu = parse.GetValue(device) == "cuda";
                    if (gpu)
                        TorchLibrary.UseCuda();
                    Console.WriteLine(
                        $"system        {System.Runtime.InteropServices.RuntimeInformation.OSDescription}, .NET {Environment.Version}"
                    );
                    Console.WriteLine(
                        $"processor     {Environment.ProcessorCount} cores, vectors of {(Vector512.IsHardwareAccelerated ? 512 : Vector256.IsHardwareAccelerated ? 256 : 128)} bits"
                    );
                    Console.WriteLine($"memory        {GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / 1e9:F1} GB");
                    Console.WriteLine($"libtorch      {TorchLibrary.Description()}");
                    Console.WriteLine($"threads       {CpuParallel.Threads}");
                    using var scope = NewDisposeScope();
                    const int n = 2048;
                    var on = gpu ? CUDA : CPU;
                    var (a, b) = (randn(n, n, device: on), randn(n, n, device: on));
                    var watch = Stopwatch.StartNew();
                    for (int i = 0; i < 12; i++)
                    {
                        if (i == 2)
                            watch.Restart();
                        using var c = a.mm(b);
                        if (i is 1 or 11)
                            c.sum().item<float>(); // a GPU's work is done when it is read
                    }
                    Console.WriteLine(
                        $"products      {10 * 2.0 * n * n * n / watch.Elapsed.TotalSeconds / 1e9:N0} GFLOP/s in f32 on {on}"
                    );
                    return Task.FromResult(0);
                })
        );
        return command;
    }
}
