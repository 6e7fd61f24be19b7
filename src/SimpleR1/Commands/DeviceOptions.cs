using System.CommandLine;
using SimpleR1.Inference;
using SimpleR1.Tensors.Cuda;
using static TorchSharp.torch;

namespace SimpleR1.Commands;

/// <summary>Options of all commands that run an engine: where, in which type, with how much memory.</summary>
internal static class DeviceOptions
{
    public static Option<string> Device(string otherwise = "cpu") =>
        new("--device") { Description = "cpu, cuda or cuda:N", DefaultValueFactory = _ => otherwise };

    public static Option<string> Type()
    {
        var option = new Option<string>("--type")
        {
            Description = "Element type of weights and KV cache on a GPU: bf16, f16 or f32 (a CPU computes in f32)",
            DefaultValueFactory = _ => "bf16",
        };
        option.AcceptOnlyFromAmong("bf16", "f16", "f32");
        return option;
    }

    public static Option<double> Utilization() =>
        new("--gpu-memory-utilization")
        {
            Description =
                "Share of the GPU's memory that may be in use; what weights and activations leave of it is KV cache",
            DefaultValueFactory = _ => 0.9,
        };

    public static Option<bool> NoGraphs() =>
        new("--no-graphs")
        {
            Description =
                "Launch every kernel by itself instead of recorded CUDA graphs: the same tokens, slower; for debugging",
        };

    public static ScalarType ParseType(string text, CudaDevice? gpu) =>
        gpu is null
            ? ScalarType.Float32
            : text switch
            {
                "f32" => ScalarType.Float32,
                "f16" => ScalarType.Float16,
                _ => ScalarType.BFloat16,
            };

    public static EngineOptions Engine(CudaDevice? gpu, double utilization, bool noGraphs) =>
        gpu is null ? new() : EngineOptions.ForGpu with { GpuMemoryUtilization = utilization, CudaGraphs = !noGraphs };
}
