using static TorchSharp.torch;

namespace SimpleR1.Tensors;

/// <summary>
/// A type that weights and activations can have, with its name in every place that names it: a new type is one more
/// entry of <see cref="All"/>.
/// </summary>
public sealed record ElementType
{
    private ElementType() { }

    public static ElementType F32 { get; } =
        new()
        {
            Scalar = ScalarType.Float32,
            Name = "f32",
            SafetensorsName = "F32",
            TorchName = "float32",
            KernelName = "float",
            CudaDataType = 0,
            Bytes = 4,
        };

    public static ElementType F16 { get; } =
        new()
        {
            Scalar = ScalarType.Float16,
            Name = "f16",
            SafetensorsName = "F16",
            TorchName = "float16",
            KernelName = "f16",
            CudaDataType = 2,
            Bytes = 2,
        };

    public static ElementType BF16 { get; } =
        new()
        {
            Scalar = ScalarType.BFloat16,
            Name = "bf16",
            SafetensorsName = "BF16",
            TorchName = "bfloat16",
            KernelName = "bf16",
            CudaDataType = 14,
            Bytes = 2,
        };

    /// <summary>All types, in the order in which messages list them.</summary>
    public static IReadOnlyList<ElementType> All { get; } = [BF16, F16, F32];

    /// <summary>"bf16, f16 or f32"</summary>
    public static string Names { get; } =
        $"{string.Join(", ", All.Take(All.Count - 1).Select(t => t.Name))} or {All[^1].Name}";

    /// <summary>libtorch's type; its name travels in the cluster's messages.</summary>
    public required ScalarType Scalar { get; init; }

    /// <summary>The name in recipes, options, and log lines: "bf16".</summary>
    public required string Name { get; init; }

    /// <summary>The name in safetensors files: "BF16".</summary>
    public required string SafetensorsName { get; init; }

    /// <summary>PyTorch's name, which config.json and vLLM use: "bfloat16".</summary>
    public required string TorchName { get; init; }

    /// <summary>The C++ type in kernels (see Prelude.cuh): "bf16".</summary>
    public required string KernelName { get; init; }

    /// <summary>NVIDIA's number for the type (cudaDataType_t).</summary>
    public required int CudaDataType { get; init; }

    /// <summary>Bytes of an element.</summary>
    public required int Bytes { get; init; }

    /// <exception cref="NotSupportedException">Weights cannot have this type.</exception>
    public static ElementType Of(ScalarType scalar)
    {
        foreach (var type in All)
            if (type.Scalar == scalar)
                return type;
        throw new NotSupportedException($"weights and activations are {Names}, not {scalar}");
    }

    /// <summary>The type with this <see cref="Name"/>; null if there is none.</summary>
    public static ElementType? Find(string name) => All.FirstOrDefault(t => t.Name == name);

    /// <summary>The type with this <see cref="Name"/>.</summary>
    /// <exception cref="ArgumentException">There is none.</exception>
    public static ElementType Parse(string name) =>
        Find(name) ?? throw new ArgumentException($"type: expected {Names}, found '{name}'");

    /// <summary>The type with libtorch's name, as messages of the cluster carry it: "BFloat16".</summary>
    /// <exception cref="ArgumentException">There is none.</exception>
    public static ElementType ParseScalar(string name) =>
        All.FirstOrDefault(t => t.Scalar.ToString() == name)
        ?? throw new ArgumentException(
            $"type: expected {string.Join(", ", All.Select(t => t.Scalar))}, found '{name}'"
        );

    /// <summary>"ELEMENT=bf16", the macro that specialises a kernel's text.</summary>
    public string Definition(string macro = "ELEMENT") => $"{macro}={KernelName}";
}
