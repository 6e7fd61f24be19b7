using System.Runtime.CompilerServices;
using static TorchSharp.torch;

namespace SimpleR1.Tensors;

/// <summary>
/// Checks before native code, whose shape errors may abort the process; our own kernels read raw memory.
/// </summary>
public static class Require
{
    /// <summary>The tensor has this shape (−1 stands for any size), is f32, contiguous and on the CPU.</summary>
    /// <exception cref="ArgumentException">The tensor differs; the message names what was expected and
    /// found.</exception>
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
            throw new ArgumentException($"{name}: expected a contiguous f32 tensor on the CPU, found {Found(tensor)}");
    }

    /// <summary>The tensor has this shape, is bf16 or f16 as said, contiguous and on the CPU.</summary>
    /// <exception cref="ArgumentException">The tensor differs; the message names what was expected and
    /// found.</exception>
    internal static void Halves(Tensor tensor, ReadOnlySpan<long> shape, ScalarType type, string name)
    {
        Shape(tensor, shape, name);
        if (tensor.dtype != type || tensor.device_type != TorchSharp.DeviceType.CPU || !tensor.is_contiguous())
            throw new ArgumentException(
                $"{name}: expected a contiguous {type} tensor on the CPU, found {Found(tensor)}"
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
                $"{name}: expected a contiguous int64 tensor on the CPU, found {Found(tensor)}"
            );
    }

    /// <summary>The tensor has this shape and type, is contiguous and on the device of these kernels.</summary>
    internal static void On(
        IKernels kernels,
        Tensor tensor,
        ReadOnlySpan<long> shape,
        ScalarType type,
        [CallerArgumentExpression(nameof(tensor))] string name = ""
    ) => kernels.Check(tensor, shape, type, name);

    /// <summary>
    /// The tensor has this shape and type, is contiguous and on this GPU. Its last dimension is a multiple of 8:
    /// kernels move 8 elements at a time.
    /// </summary>
    /// <exception cref="ArgumentException">The tensor differs; the message names what was expected and
    /// found.</exception>
    /// <exception cref="NotSupportedException">The last dimension is no multiple of 8.</exception>
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
                $"{name}: expected a contiguous {type} tensor on cuda:{gpu.Index}, found {Found(tensor)}"
            );
        if (tensor.dim() > 1 && tensor.shape[^1] % 8 != 0)
            throw new NotSupportedException(
                $"{name}: GPUs need sizes that are multiples of 8, found {tensor.shape[^1]}; "
                    + "run this model with --device cpu"
            );
    }

    /// <summary>The tensor has this shape; −1 stands for any size.</summary>
    /// <exception cref="ArgumentException">The tensor has another shape.</exception>
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
        if (fits)
            return;
        var expected = shape.ToArray().Select(n => n < 0 ? "any" : n.ToString());
        throw new ArgumentException(
            $"{name}: expected shape [{string.Join(", ", expected)}], found [{string.Join(", ", found)}]"
        );
    }

    private static string Found(Tensor tensor) =>
        $"{tensor.dtype} on {tensor.device}{(tensor.is_contiguous() ? "" : ", not contiguous")}";
}
