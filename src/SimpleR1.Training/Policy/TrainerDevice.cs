using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using SimpleR1.Training.Recipes.Sections;

namespace SimpleR1.Training.Policy;

/// <summary>What a policy is trained on, and the element type of its live weights there.</summary>
/// <param name="Name">cpu, or cuda:N.</param>
public sealed record TrainerDevice(string Name, ElementType Type)
{
    private const int Multiple = 8;

    public static TrainerDevice Cpu { get; } = new("cpu", ElementType.F32);

    public bool IsGpu => Name != Cpu.Name;

    /// <summary>The GPU; null for the CPU.</summary>
    public CudaDevice? Open() => CudaDevice.Parse(Name);

    /// <summary>Begins to open the GPU that a recipe may take, while its files are read: that takes seconds.</summary>
    /// <param name="device">auto, cpu, cuda or cuda:N.</param>
    public static void Prepare(string device)
    {
        if (device == Cpu.Name || CudaDevice.Count == 0)
            return;
        _ = Task.Run(() =>
        {
            try
            {
                _ = CudaDevice.Parse(device == "auto" ? "cuda" : device);
            }
            catch (Exception e) when (e is ArgumentException or CudaException or DllNotFoundException)
            {
                // Choose meets it again, and says so
            }
        });
    }

    /// <summary>The device that a recipe names, or the first GPU that is free and can train the model, if there is one.</summary>
    /// <param name="device">auto, cpu, cuda or cuda:N.</param>
    /// <param name="type">Null for the device's own: bf16 on a GPU, f32 on a CPU.</param>
    /// <param name="config">The model; null where it could not be read.</param>
    /// <param name="log">Receives why auto takes no GPU although there is one.</param>
    /// <exception cref="ArgumentException">There is no such device, or it can't train the model.</exception>
    public static TrainerDevice Choose(string device, TrainedType? type, ModelConfig? config, Action<string> log)
    {
        string name = device == "auto" ? FirstUsable(config, log) : device;
        if (name == Cpu.Name)
            return type == TrainedType.BF16 && device != "auto"
                ? throw new ArgumentException("a CPU trains in f32; leave type out, or train on a GPU")
                : Cpu;

        var gpu =
            CudaDevice.Parse(name) ?? throw new ArgumentException($"device '{device}': expected auto, cpu or cuda:N");
        if (config is not null && WhyNot(config) is { } reason)
            throw new ArgumentException($"{reason}; train it with device: cpu");
        return new($"cuda:{gpu.Index}", type == TrainedType.F32 ? ElementType.F32 : ElementType.BF16);
    }

    private static string FirstUsable(ModelConfig? config, Action<string> log)
    {
        if (CudaDevice.Count == 0)
            return Cpu.Name;
        string? reason = config is null ? null : WhyNot(config);
        for (int i = 0; i < CudaDevice.Count && reason is null; i++)
            try
            {
                var gpu = CudaDevice.Open(i);
                var (free, total) = gpu.FreeMemory();
                if (2 * free > total)
                    return $"cuda:{i}";
                if (i + 1 == CudaDevice.Count)
                    reason =
                        $"others use more than half of its memory ({CudaDevice.Gigabytes(free)} of "
                        + $"{CudaDevice.Gigabytes(total)} are free on cuda:{i}); training.device takes it nevertheless";
            }
            catch (Exception e) when (e is DllNotFoundException or CudaDeviceMissingException)
            {
                reason = e.Message;
            }
        log($"training on the CPU, although there is a GPU: {reason}");
        return Cpu.Name;
    }

    /// <summary>Why the kernels can't train a model: they move 8 elements at a time, and rotate half a head.</summary>
    private static string? WhyNot(ModelConfig config)
    {
        (string Name, int Size)[] sizes =
        [
            ("hidden_size", config.HiddenSize),
            ("intermediate_size", config.IntermediateSize),
            ("vocab_size", config.VocabularySize),
            ("half of head_dim", config.HeadDimension / 2),
        ];
        var odd = sizes.FirstOrDefault(size => size.Size % Multiple != 0);
        return odd.Name is null
            ? null
            : $"GPUs need sizes that are multiples of {Multiple}, and {odd.Name} is {odd.Size}";
    }
}
