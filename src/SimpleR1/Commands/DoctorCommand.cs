using System.CommandLine;
using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using SimpleR1.Commands.Options;
using SimpleR1.Tensors;
using static TorchSharp.torch;

namespace SimpleR1.Commands;

internal static class DoctorCommand
{
    public static Command Create()
    {
        var command = new Command("doctor", "Check that this machine can run: libtorch, threads, vector width, memory");
        var device = command
            .AddDefault("--device", "cpu")
            .Describe("cpu, or cuda to load the CUDA build of a PyTorch (SIMPLE_R1_TORCH names its lib folder)");
        device.AcceptOnlyFromAmong("cpu", "cuda");
        command.SetHandler(parse => Print(gpu: parse.GetValue(device) == "cuda"));
        return command;
    }

    private static void Print(bool gpu)
    {
        if (gpu)
            TorchLibrary.UseCuda();
        double memory = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / 1e9;
        var on = gpu ? CUDA : CPU;

        Console.WriteLine($"system        {RuntimeInformation.OSDescription}, .NET {Environment.Version}");
        Console.WriteLine($"processor     {Environment.ProcessorCount} cores, vectors of {VectorBits()} bits");
        Console.WriteLine($"memory        {memory:F1} GB");
        Console.WriteLine($"libtorch      {TorchLibrary.Description()}");
        Console.WriteLine($"threads       {CpuParallel.Threads}");
        Console.WriteLine($"products      {Gigaflops(on):N0} GFLOP/s in f32 on {on}");
    }

    private static int VectorBits()
    {
        if (Vector512.IsHardwareAccelerated)
            return 512;
        return Vector256.IsHardwareAccelerated ? 256 : 128;
    }

    /// <summary>The speed of a product of two matrices.</summary>
    private static double Gigaflops(Device on)
    {
        const int n = 2048;
        const int warmUp = 2;
        const int measured = 10;
        using var scope = NewDisposeScope();
        var a = randn(n, n, device: on);
        var b = randn(n, n, device: on);
        var watch = Stopwatch.StartNew();
        for (int i = 0; i < warmUp + measured; i++)
        {
            if (i == warmUp)
                watch.Restart();
            using var c = a.mm(b);
            if (i is warmUp - 1 or warmUp + measured - 1)
                c.sum().item<float>(); // waits until the GPU has computed it
        }
        return measured * 2.0 * n * n * n / watch.Elapsed.TotalSeconds / 1e9;
    }
}
