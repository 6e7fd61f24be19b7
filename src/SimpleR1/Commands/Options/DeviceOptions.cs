using System.CommandLine;
using SimpleR1.Cluster;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Tensors.Cuda;
using static TorchSharp.torch;

namespace SimpleR1.Commands.Options;

/// <summary>Where an engine runs, in which element type, with how much memory.</summary>
internal sealed class DeviceOptions(Command command, string defaultDevice = "cpu")
{
    private readonly Option<string> device = command
        .AddDefault("--device", defaultDevice)
        .Describe("cpu, cuda or cuda:N");
    private readonly Option<string> type = AddType(command);
    private readonly Option<double> utilization = command
        .AddDefault("--gpu-memory-utilization", 0.9)
        .Describe("Share of the GPU's memory to use; the KV cache gets what weights and activations leave");
    private readonly Option<bool> noGraphs = command
        .AddOption<bool>("--no-graphs")
        .Describe("Launch every kernel by itself, without CUDA graphs: the same tokens, slower; for debugging");

    public static Option<string> AddType(Command command)
    {
        var option = command
            .AddDefault("--type", WorkerSettings.DefaultType)
            .Describe("Element type of weights and KV cache on a GPU (a CPU computes in f32)");
        option.AcceptOnlyFromAmong(
            StringComparer.OrdinalIgnoreCase,
            [.. SimpleR1.Tensors.ElementType.All.Select(t => t.Name)]
        );
        return option;
    }

    /// <summary>The type of <see cref="AddType"/>'s option, whose case does not matter.</summary>
    public static SimpleR1.Tensors.ElementType ParseType(string name) =>
        SimpleR1.Tensors.ElementType.Parse(name.ToLowerInvariant());

    /// <summary>The GPU; null for the CPU.</summary>
    public CudaDevice? Gpu(ParseResult parse) => CudaDevice.Parse(parse.GetValue(device)!);

    public ScalarType ElementType(ParseResult parse, CudaDevice? gpu) =>
        gpu is null ? ScalarType.Float32 : ParseType(parse.GetValue(type)!).Scalar;

    public EngineOptions Engine(ParseResult parse, CudaDevice? gpu) => gpu is null ? new() : GpuEngine(parse);

    public EngineOptions GpuEngine(ParseResult parse) =>
        EngineOptions.ForGpu with
        {
            GpuMemoryUtilization = parse.GetValue(utilization),
            CudaGraphs = !parse.GetValue(noGraphs),
        };

    /// <summary>Loads a model folder or a checkpoint onto the device.</summary>
    public FlatWeights LoadWeights(ParseResult parse, string folder, CudaDevice? gpu) =>
        gpu is null ? Checkpoint.Load(folder) : Checkpoint.Load(folder, ElementType(parse, gpu), gpu);
}
