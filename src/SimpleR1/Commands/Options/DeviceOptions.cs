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
    private readonly Option<string?> type = OfTypes(
        command
            .AddOption<string?>("--type")
            .Describe(
                "Element type of the weights, and of a GPU's KV cache; default: bf16 on a GPU, the checkpoint's own on a CPU"
            )
    );
    private readonly Option<double> utilization = command
        .AddDefault("--gpu-memory-utilization", 0.9)
        .Describe("Share of the GPU's memory to use; the KV cache gets what weights and activations leave");
    private readonly Option<bool> noGraphs = command
        .AddOption<bool>("--no-graphs")
        .Describe("Launch every kernel by itself, without CUDA graphs: the same tokens, slower; for debugging");

    public static Option<string> AddType(Command command) =>
        OfTypes(
            command
                .AddDefault("--type", WorkerSettings.DefaultType)
                .Describe("Element type of weights and KV cache on a GPU (a CPU computes in f32)")
        );

    private static Option<T> OfTypes<T>(Option<T> option)
    {
        string[] names = [.. SimpleR1.Tensors.ElementType.All.Select(t => t.Name)];
        option.AcceptOnlyFromAmong(StringComparer.OrdinalIgnoreCase, names);
        return option;
    }

    /// <summary>The type of <see cref="AddType"/>'s option, whose case does not matter.</summary>
    public static SimpleR1.Tensors.ElementType ParseType(string name) =>
        SimpleR1.Tensors.ElementType.Parse(name.ToLowerInvariant());

    /// <summary>The GPU; null for the CPU.</summary>
    public CudaDevice? Gpu(ParseResult parse) => CudaDevice.Parse(parse.GetValue(device)!);

    /// <param name="onCpu">The type on a CPU where the command line names none.</param>
    public ScalarType ElementType(ParseResult parse, CudaDevice? gpu, ScalarType onCpu = ScalarType.Float32)
    {
        if (parse.GetValue(type) is { } given)
            return ParseType(given).Scalar;
        return gpu is null ? onCpu : ParseType(WorkerSettings.DefaultType).Scalar;
    }

    public EngineOptions Engine(ParseResult parse, CudaDevice? gpu) => gpu is null ? new() : GpuEngine(parse);

    public EngineOptions GpuEngine(ParseResult parse) =>
        EngineOptions.ForGpu with
        {
            GpuMemoryUtilization = parse.GetValue(utilization),
            CudaGraphs = !parse.GetValue(noGraphs),
        };

    /// <summary>Loads a model folder or a checkpoint onto the device.</summary>
    /// <param name="takesUpdates">A trainer may send weights, which a CPU takes in f32.</param>
    /// <exception cref="ArgumentException">The type is one that a CPU takes no updates in.</exception>
    public FlatWeights LoadWeights(ParseResult parse, string folder, CudaDevice? gpu, bool takesUpdates = false)
    {
        if (gpu is not null)
            return Checkpoint.Load(folder, ElementType(parse, gpu), gpu);
        var onCpu = ElementType(parse, null, takesUpdates ? ScalarType.Float32 : Checkpoint.StoredType(folder));
        if (takesUpdates && onCpu != ScalarType.Float32)
            throw new ArgumentException(
                $"--type {parse.GetValue(type)}: a CPU takes weights from a trainer in f32 only; leave --type out"
            );
        return Checkpoint.Load(folder, onCpu);
    }
}
