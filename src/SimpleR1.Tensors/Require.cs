using System.Runtime.CompilerServices;
using static TorchSharp.torch;

namespace SimpleR1.Tensors;

/// <summary>Checks before native code: some of its shape errors abort the process, and our kernels read raw memory.</summary>
public static class Require
{
    /// <summary>The tensor has this shape (-1 stands for any size), is f32, contiguous and on the CPU.</summary>
    /// <exception cref="ArgumentException">It has not; says what was expected and what was found.</exception>
    public static void Floats(
        Tensor tensor,
        ReadOnlySpan<long> shape,
        [CallerArgumentExpression(nameof(tensor))] string name = ""
    )
    {
        Shape(tensor, shape, name);
        if (
            tensor.dtype != ScalarType.Float32
            || tensor.device_type != TorchSharp.DeviceType.CPU
            || !tensor.is_contiguous()
        )
            throw new ArgumentException(
                $"{name}: expected a contiguous f32 tensor on the CPU, found {tensor.dtype} on {tensor.device}{(tensor.is_contiguous() ? "" : ", not contiguous")}"
            );
    }

    /// <summary>The tensor holds contiguous 64-bit integers of this shape on the CPU.</summary>
    public static void Integers(
        Tensor tensor,
        ReadOnlySpan<long> shape,
        [CallerArgumentExpression(nameof(tensor))] string name = ""
    )
    {
        Shape(tensor, shape, name);
        if (
            tensor.dtype != ScalarType.Int64
            || tensor.device_type != TorchSharp.DeviceType.CPU
            || !tensor.is_contiguous()
        )
            throw new ArgumentException(
                $"{name}: expected a contiguous int64 tensor on the CPU, found {tensor.dtype} on {tensor.device}"
            );
    }

    /// <summary>The tensor has this shape and type, is contiguous and on this GPU. The last dimension is a multiple of 8: kernels move 8 elements at a time.</summary>
    public static void On(
        Cuda.CudaDevice gpu,
        Tensor tensor,
        ReadOnlySpan<long> shape,
        ScalarType type,
        [CallerArgumentExpression(nameof(tensor))] string name = ""
    )
    {
        Shape(tensor, shape, name);
        if (tensor.dtype != type || Cuda.CudaDevice.Of(tensor) != gpu || !tensor.is_contiguous())
            throw new ArgumentException(
                $"{name}: expected a contiguous {type} tensor on cuda:{gpu.Index}, found {tensor.dtype} on {tensor.device}{(tensor.is_contiguous() ? "" : ", not contiguous")}"
            );
        if (tensor.dim() > 1 && tensor.shape[^1] % 8 != 0)
            throw new NotSupportedException(
                $"{name}: GPUs need sizes that are multiples of 8, found {tensor.shape[^1]}; run this model with --device cpu"
            );
    }

    public static void Shape(
        Tensor tensor,
        ReadOnlySpan<long> shape,
        [CallerArgumentExpression(nameof(tensor))] string name = ""
    )
    {
        var found = tensor.shape;
        bool fits = found.Length == shape.Length;
        for (int i = 0; fits && i < shape.Length; i++)
            fits = shape[i] < 0 || shape[i] == found[i];
        if (!fits)
            throw new ArgumentException(
                $"{name}: expected shape [{string.Join(", ", shape.ToArray().Select(n => n < 0 ? "any" : n.ToString()))}], found [{string.Join(", ", found)}]"
            );
    }
}
