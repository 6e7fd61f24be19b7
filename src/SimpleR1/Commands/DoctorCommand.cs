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
        var command = new Command("doctor", "Check that this machine can run: libtorch, threads, vector width, memory");
        command.SetAction((_, _) => CommandErrors.RunAsync(() =>
        {
            Console.WriteLine($"system        {System.Runtime.InteropServices.RuntimeInformation.OSDescription}, .NET {Environment.Version}");
            Console.WriteLine($"processor     {Environment.ProcessorCount} cores, vectors of {(Vector512.IsHardwareAccelerated ? 512 : Vector256.IsHardwareAccelerated ? 256 : 128)} bits");
            Console.WriteLine($"memory        {GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / 1e9:F1} GB");
            Console.WriteLine($"libtorch      {TorchLibrary.Description()}");
            Console.WriteLine($"threads       {CpuParallel.Threads}");
            using var scope = NewDisposeScope();
            var (a, b) = (randn(1024, 1024), randn(1024, 1024));
            var watch = Stopwatch.StartNew();
            for (int i = 0; i < 20; i++)
            {
                if (i == 5) watch.Restart();
                using var c = a.mm(b);
            }
            Console.WriteLine($"matrix units  {15 * 2.0 * 1024 * 1024 * 1024 / watch.Elapsed.TotalSeconds / 1e9:F0} GFLOP/s in f32 products");
            return Task.FromResult(0);
        }));
        return command;
    }
}
