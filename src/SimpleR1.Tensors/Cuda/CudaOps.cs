using static TorchSharp.torch;

namespace SimpleR1.Tensors.Cuda;

/// <summary>
/// The decoder's operations on a GPU; <see cref="Ops"/> calls them and has checked shapes. Weights and activations are bf16, f16 or f32, the residual
/// stream is f32. Results lie in <see cref="CudaDevice.Scratch"/>. Gradients are not computed here.
/// </summary>
public static class CudaOps
{
    private const int SmallRows = 4; // up to here our own product is faster than cuBLAS's; see SmallLinear.cu
    private const int SmallWarps = 4,
        ManyOutputs = 4096,
        ManyInputs = 2048;

    /// <summary>"ELEMENT=bf16", which specialises a kernel's text.</summary>
    public static string Element(ScalarType type, string macro = "ELEMENT") =>
        type switch
        {
            ScalarType.BFloat16 => $"{macro}=bf16",
            ScalarType.Float16 => $"{macro}=f16",
            ScalarType.Float32 => $"{macro}=float",
            _ => throw new NotSupportedException($"kernels exist for bf16, f16 and f32, not for {type}"),
        };

    internal static Tensor Embedding(CudaDevice gpu, Tensor table, Tensor ids)
    {
        int width = (int)table.shape[1];
        var output = gpu.Scratch.Take([ids.shape[0], width], ScalarType.Float32);
        gpu.Kernels.Get("Embedding", "embedding", Element(table.dtype))
            .Launch(((int)ids.shape[0], 1), ThreadsFor(width / 8), 0, output, table, ids, width);
        return output;
    }

    internal static Tensor Linear(CudaDevice gpu, Tensor x, Tensor weight, Tensor? bias)
    {
        var output = gpu.Scratch.Take([x.shape[0], weight.shape[0]], weight.dtype);
        Linear(gpu, x, weight, bias, output);
        return output;
    }

    internal static void Linear(CudaDevice gpu, Tensor x, Tensor weight, Tensor? bias, Tensor output)
    {
        int rows = (int)x.shape[0],
            outputs = (int)weight.shape[0],
            inputs = (int)weight.shape[1];
        if (rows > SmallRows)
        {
            if (gpu.Profile is null)
                gpu.Blas.Linear(x, weight, bias, output);
            else
                ProfiledLinear(gpu, gpu.Profile, x, weight, bias, output);
            return;
        }
        string most = rows <= 2 ? $"{rows}" : "4";
        bool wide = output.dtype != weight.dtype;
        int perWarp = wide || outputs >= ManyOutputs ? 4 : 1; // few outputs: a warp each, or even a block each, so that enough loads are under way
        if (perWarp == 1 && inputs >= ManyInputs)
        {
            gpu.Kernels.Get("SmallLinear", $"small_linear_{most}_split", Element(weight.dtype))
                .Launch((outputs, 1), 32 * SmallWarps, 0, x, weight, bias, output, rows, outputs, inputs);
            return;
        }
        string name = wide ? $"small_linear_to_float_{most}" : $"small_linear_{most}_{perWarp}";
        gpu.Kernels.Get("SmallLinear", name, Element(weight.dtype))
            .Launch(
                ((outputs + perWarp * SmallWarps - 1) / (perWarp * SmallWarps), 1),
                32 * SmallWarps,
                0,
                x,
                weight,
                bias,
                output,
                rows,
                outputs,
                inputs
            );
    }

    /// <summary>silu(x · gateᵀ) · (x · upᵀ), for few rows in one kernel.</summary>
    internal static Tensor GatedLinear(CudaDevice gpu, Tensor x, Tensor weight)
    {
        int rows = (int)x.shape[0],
            width = (int)weight.shape[0] / 2,
            inputs = (int)weight.shape[1];
        if (rows > SmallRows)
            return SwiGlu(gpu, Linear(gpu, x, weight, null));
        var output = gpu.Scratch.Take([rows, width], weight.dtype);
        string name = rows <= 2 ? $"small_gated_{rows}" : "small_gated_4";
        gpu.Kernels.Get("SmallLinear", name, Element(weight.dtype))
            .Launch(
                ((width + 2 * SmallWarps - 1) / (2 * SmallWarps), 1),
                32 * SmallWarps,
                0,
                x,
                weight,
                output,
                rows,
                width,
                inputs
            );
        return output;
    }

    private static void ProfiledLinear(
        CudaDevice gpu,
        KernelProfile profile,
        Tensor x,
        Tensor weight,
        Tensor? bias,
        Tensor output
    ) =>
        profile.Measure(
            $"product with [{weight.shape[0]}, {weight.shape[1]}]",
            () => gpu.Blas.Linear(x, weight, bias, output)
        );

    internal static (Tensor Sum, Tensor Normed) AddRmsNorm(
        CudaDevice gpu,
        Tensor x,
        Tensor? delta,
        Tensor weight,
        double epsilon
    )
    {
        int rows = (int)x.shape[0],
            width = (int)x.shape[1];
        var sum = delta is null ? x : gpu.Scratch.Take(x.shape, ScalarType.Float32);
        var normed = gpu.Scratch.Take(x.shape, weight.dtype);
        gpu.Kernels.Get("RmsNorm", "add_rms_norm", Element(weight.dtype))
            .Launch((rows, 1), ThreadsFor(width / 8), 0, x, delta, sum, weight, normed, width, (float)epsilon);
        return (sum, normed);
    }

    internal static Tensor SwiGlu(CudaDevice gpu, Tensor gateUp)
    {
        int rows = (int)gateUp.shape[0],
            width = (int)gateUp.shape[1] / 2,
            threads = Math.Min(256, ThreadsFor(width / 8));
        var output = gpu.Scratch.Take([rows, width], gateUp.dtype);
        gpu.Kernels.Get("SwiGlu", "swiglu", Element(gateUp.dtype))
            .Launch(((width / 8 + threads - 1) / threads, rows), threads, 0, gateUp, output, width);
        return output;
    }

    internal static Tensor SelectRows(CudaDevice gpu, Tensor x, Tensor indices)
    {
        int width = (int)x.shape[1];
        var output = gpu.Scratch.Take([indices.shape[0], width], x.dtype);
        gpu.Kernels.Get("SelectRows", "select_rows", Element(x.dtype))
            .Launch(((int)indices.shape[0], 1), ThreadsFor(width / 8), 0, x, output, indices, width);
        return output;
    }

    /// <summary>Whole warps, as many as have work, 1,024 at most.</summary>
    private static int ThreadsFor(int items) => Math.Clamp((items + 31) / 32 * 32, 32, 1024);
}
