using static TorchSharp.torch;

namespace SimpleR1.Tensors.Cuda.Operations;

/// <content>Matrix products and their gradients.</content>
internal sealed partial class CudaKernels
{
    private const int SmallRows = 4; // up to here our own product is faster than cuBLAS's; see SmallLinear.cu
    private const int SmallWarps = 4,
        ManyOutputs = 4096,
        ManyInputs = 2048;
    private const int RowsPerPart = 256; // of the sum over rows

    public void Linear(Tensor x, Tensor weight, Tensor? bias, Tensor y)
    {
        if (x.shape[0] <= SmallRows)
            SmallLinear(x, weight, bias, y);
        else if (gpu.Profile is null)
            gpu.Blas.Linear(x, weight, bias, y);
        else
            Profiled("product", weight, () => gpu.Blas.Linear(x, weight, bias, y));
    }

    private void SmallLinear(Tensor x, Tensor weight, Tensor? bias, Tensor y)
    {
        int rows = (int)x.shape[0],
            outputs = (int)weight.shape[0],
            inputs = (int)weight.shape[1];
        string mostRows = rows <= 2 ? $"{rows}" : "4";
        bool wide = y.dtype != weight.dtype;

        // Few outputs: a warp each, or even a block each, so that enough loads are in flight.
        int perWarp = wide || outputs >= ManyOutputs ? 4 : 1;
        if (perWarp == 1 && inputs >= ManyInputs)
        {
            gpu.Kernels.Get("SmallLinear", $"small_linear_{mostRows}_split", Element(weight))
                .Launch((outputs, 1), 32 * SmallWarps, 0, x, weight, bias, y, rows, outputs, inputs);
            return;
        }

        string name = wide ? $"small_linear_to_float_{mostRows}" : $"small_linear_{mostRows}_{perWarp}";
        int blocks = (outputs + perWarp * SmallWarps - 1) / (perWarp * SmallWarps);
        gpu.Kernels.Get("SmallLinear", name, Element(weight))
            .Launch((blocks, 1), 32 * SmallWarps, 0, x, weight, bias, y, rows, outputs, inputs);
    }

    private void Profiled(string what, Tensor weight, Action product) =>
        gpu.Profile!.Measure($"{what} with [{weight.shape[0]}, {weight.shape[1]}]", product);

    /// <summary>One kernel for few rows; else a product and <see cref="SwiGlu"/>.</summary>
    public void GatedLinear(Tensor x, Tensor weight, Tensor y)
    {
        int rows = (int)x.shape[0],
            width = (int)weight.shape[0] / 2,
            inputs = (int)weight.shape[1];
        if (rows > SmallRows)
        {
            var gateUp = Allocate([rows, weight.shape[0]], weight.dtype); // [t, 2·i]
            Linear(x, weight, null, gateUp);
            SwiGlu(gateUp, y);
            return;
        }

        string name = rows <= 2 ? $"small_gated_{rows}" : "small_gated_4";
        int blocks = (width + 2 * SmallWarps - 1) / (2 * SmallWarps);
        gpu.Kernels.Get("SmallLinear", name, Element(weight))
            .Launch((blocks, 1), 32 * SmallWarps, 0, x, weight, y, rows, width, inputs);
    }

    public void LinearInputGradient(Tensor dy, Tensor weight, Tensor dx)
    {
        if (gpu.Profile is null)
            gpu.Blas.LinearInputGradient(dy, weight, dx);
        else
            Profiled("input gradient", weight, () => gpu.Blas.LinearInputGradient(dy, weight, dx));
    }

    public void LinearWeightGradient(Tensor dy, Tensor x, Tensor dWeight)
    {
        if (gpu.Profile is null)
            gpu.Blas.LinearWeightGradient(dy, x, dWeight);
        else
            Profiled("weight gradient", dWeight, () => gpu.Blas.LinearWeightGradient(dy, x, dWeight));
    }

    public void LinearBiasGradient(Tensor dy, Tensor dBias)
    {
        int rows = (int)dy.shape[0],
            width = (int)dy.shape[1],
            parts = Groups(rows, RowsPerPart);
        using var partial = Allocate([parts, width], float32);
        gpu.Kernels.Get("ColumnSum", "column_sum", Element(dy))
            .Launch((Groups(width / 8, SumThreads), parts), SumThreads, 0, dy, partial, rows, width, RowsPerPart);
        AddParts(partial, 0, dBias);
    }

    /// <summary>Adds columns <paramref name="first"/> … of all parts to a gradient, in the order of the parts.</summary>
    private void AddParts(Tensor partial, int first, Tensor gradient)
    {
        int width = (int)gradient.shape[0];
        gpu.Kernels.Get("ColumnSum", "add_parts", "ELEMENT=float")
            .Launch(
                (Groups(width, SumThreads), 1),
                SumThreads,
                0,
                Aten.DataPointer(partial) + first * sizeof(float),
                gradient,
                (int)partial.shape[0],
                width,
                (int)partial.shape[1]
            );
    }
}
