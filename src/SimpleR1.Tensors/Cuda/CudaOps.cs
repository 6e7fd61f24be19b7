using static TorchSharp.torch;

namespace SimpleR1.Tensors.Cuda;

/// <summary>
/// The decoder's operations on a GPU; <see cref="Ops"/> calls them and has checked shapes. Weights and activations are bf16, f16 or f32, the residual
/// stream is f32. Results lie in <see cref="CudaDevice.Scratch"/>. Gradients are not computed here.
/// </summary>
public static class CudaOps
{
    private const int SmallRows = 4; // up to here our own product is faster than cuBLAS's; see SmallLinear.cu

    /// <summary>"ELEMENT=bf16", which specialises a kernel's text.</summary>
    public static string Element(ScalarType type) => type switch
    {
        ScalarType.BFloat16 => "ELEMENT=bf16",
        ScalarType.Float16 => "ELEMENT=f16",
        ScalarType.Float32 => "ELEMENT=float",
        _ => throw new NotSupportedException($"kernels exist for bf16, f16 and f32, not for {type}"),
    };

    internal static Tensor Embedding(CudaDevice gpu, Tensor table, Tensor ids)
    {
        int width = (int)table.shape[1];
        var output = gpu.Scratch.Take([ids.shape[0], width], ScalarType.Float32);
        gpu.Kernels.Get("Embedding", "embedding", Element(table.dtype)).Launch(((int)ids.shape[0], 1), ThreadsFor(width / 8), 0, output, table, ids, width);
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
        int rows = (int)x.shape[0], outputs = (int)weight.shape[0], inputs = (int)weight.shape[1];
        if (rows > SmallRows)
        {
            if (gpu.Profile is null) gpu.Blas.Linear(x, weight, bias, output);
            else ProfiledLinear(gpu, gpu.Profile, x, weight, bias, output);
            return;
        }
        const int warps = 4;
        string name = (output.dtype == weight.dtype ? "small_linear_" : "small_linear_to_float_") + (rows <= 2 ? rows : 4);
        gpu.Kernels.Get("SmallLinear", name, Element(weight.dtype)).Launch(((outputs + 4 * warps - 1) / (4 * warps), 1), 32 * warps, 0, x, weight, bias, output, rows, outputs, inputs);
    }

    private static void ProfiledLinear(CudaDevice gpu, KernelProfile profile, Tensor x, Tensor weight, Tensor? bias, Tensor output) =>
        profile.Measure($"product with [{weight.shape[0]}, {weight.shape[1]}]", () => gpu.Blas.Linear(x, weight, bias, output));

    internal static (Tensor Sum, Tensor Normed) AddRmsNorm(CudaDevice gpu, Tensor x, Tensor? delta, Tensor weight, double epsilon)
    {
        int rows = (int)x.shape[0], width = (int)x.shape[1];
        var sum = delta is null ? x : gpu.Scratch.Take(x.shape, ScalarType.Float32);
        var normed = gpu.Scratch.Take(x.shape, weight.dtype);
        gpu.Kernels.Get("RmsNorm", "add_rms_norm", Element(weight.dtype)).Launch((rows, 1), ThreadsFor(width / 8), 0, x, delta, sum, weight, normed, width, (float)epsilon);
        return (sum, normed);
    }

    internal static Tensor SwiGlu(CudaDevice gpu, Tensor gateUp)
    {
        int rows = (int)gateUp.shape[0], width = (int)gateUp.shape[1] / 2, threads = Math.Min(256, ThreadsFor(width / 8));
        var output = gpu.Scratch.Take([rows, width], gateUp.dtype);
        gpu.Kernels.Get("SwiGlu", "swiglu", Element(gateUp.dtype)).Launch(((width / 8 + threads - 1) / threads, rows), threads, 0, gateUp, output, width);
        return output;
    }

    internal static Tensor SelectRows(CudaDevice gpu, Tensor x, Tensor indices)
    {
        int width = (int)x.shape[1];
        var output = gpu.Scratch.Take([indices.shape[0], width], x.dtype);
        gpu.Kernels.Get("SelectRows", "select_rows", Element(x.dtype)).Launch(((int)indices.shape[0], 1), ThreadsFor(width / 8), 0, x, output, indices, width);
        return output;
    }

    /// <summary>Whole warps, as many as have work, 1,024 at most.</summary>
    private static int ThreadsFor(int items) => Math.Clamp((items + 31) / 32 * 32, 32, 1024);
}
