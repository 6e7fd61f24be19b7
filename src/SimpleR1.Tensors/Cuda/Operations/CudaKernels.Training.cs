using SimpleR1.Tensors.Operands;
using static TorchSharp.torch;

namespace SimpleR1.Tensors.Cuda.Operations;

/// <content>Log-probs and the optimizer.</content>
internal sealed partial class CudaKernels
{
    private const int HeadThreads = 512;
    private const int NormChunk = 1 << 14,
        NormThreads = 256,
        AdamWThreads = 256;

    public void LogProbs(Tensor logits, TokenChoice choice, TokenDistribution result) =>
        gpu
            .Kernels.Get("TokenLogProbs", "token_log_probs", "ELEMENT=float")
            .Launch(
                ((int)logits.shape[0], 1),
                HeadThreads,
                0,
                logits,
                choice.Tokens,
                result.LogProbs,
                result.LogSum,
                result.Entropy,
                (int)logits.shape[1],
                (float)(1 / choice.Temperature)
            );

    /// <remarks>
    /// A gradient of 16 bits begins where its row of logits began, so that no row is written before it has been read.
    /// </remarks>
    public Tensor LogProbsGradient(Tensor logits, TokenChoice choice, Tensor logSum, Tensor dLogProbs, ScalarType type)
    {
        long[] shape = logits.shape;
        gpu.Kernels.Get("TokenLogProbs", "token_log_probs_gradient", ElementType.Of(type).Definition())
            .Launch(
                ((int)shape[0], 1),
                HeadThreads,
                0,
                logits,
                choice.Tokens,
                logSum,
                dLogProbs,
                (int)shape[1],
                (float)(1 / choice.Temperature)
            );
        return gpu.WrapRows(Aten.DataPointer(logits), shape, type, shape[1] * sizeof(float) / type.ElementSize());
    }

    public void AdamW(AdamWBuffers buffers, long first, long length, AdamWSettings settings)
    {
        KernelArgument[] numbers = Numbers(settings);
        int blocks = Groups(length, 8 * AdamWThreads);
        nint At(Tensor tensor) => Aten.DataPointer(tensor) + (nint)(first * tensor.element_size());
        nint gradient = At(buffers.Gradient),
            mean = At(buffers.Mean),
            variance = At(buffers.Variance);
        if (buffers.Remainder is { } remainder)
            gpu.Kernels.Get("AdamW", "adamw_split", "ELEMENT=float")
                .Launch(
                    (blocks, 1),
                    AdamWThreads,
                    0,
                    [At(buffers.Weight), At(remainder), gradient, mean, variance, length, .. numbers]
                );
        else
            gpu.Kernels.Get("AdamW", "adamw", "ELEMENT=float")
                .Launch(
                    (blocks, 1),
                    AdamWThreads,
                    0,
                    [At(buffers.Weight), gradient, mean, variance, length, .. numbers]
                );
    }

    /// <summary>The last parameters of the kernels in AdamW.cu.</summary>
    private static KernelArgument[] Numbers(AdamWSettings s)
    {
        double[] numbers =
        [
            s.GradientScale,
            s.Rate,
            s.RootScale,
            s.Keep,
            s.Beta1,
            s.Beta2,
            1 - s.Beta1,
            1 - s.Beta2,
            s.Epsilon,
        ];
        return [.. numbers.Select(number => (KernelArgument)(float)number)];
    }

    public double SumOfSquares(Tensor x)
    {
        long length = x.shape[0];
        int chunks = Groups(length, NormChunk);
        using var sums = Allocate([chunks], float64);
        gpu.Kernels.Get("AdamW", "sum_of_squares", "ELEMENT=float")
            .Launch((chunks, 1), NormThreads, 0, x, length, sums);
        gpu.Kernels.Get("AdamW", "sum_of_sums", "ELEMENT=float").Launch((1, 1), 1024, 0, sums, chunks, gpu.Word);
        return gpu.Read<double>(gpu.Word.Pointer, 1)[0];
    }
}
