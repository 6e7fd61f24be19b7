using System.Runtime.InteropServices;
using System.Text;
using static TorchSharp.torch;

namespace SimpleR1.Tensors;

/// <summary>
/// Any aten operation through libtorch's stable C interface (<c>torch_call_dispatcher</c>), autograd included, and
/// tensors over memory that others own. TorchSharp's tensor handle is the interface's tensor handle.
/// </summary>
/// <remarks>
/// Shapes must be right before a call: some native errors abort the process. The operations of <see cref="Ops"/>
/// check theirs.
/// </remarks>
public static unsafe partial class Aten
{
    private const string Library = "torch_cpu";
    private const ulong AbiVersion = (2ul << 56) | (10ul << 48);

    /// <summary>
    /// One slot of the dispatcher's argument stack; built by the conversions below, consumed by the call.
    /// </summary>
    public readonly record struct Argument(ulong Bits)
    {
        public static readonly Argument None = new(0);

        public static implicit operator Argument(Tensor tensor)
        {
            Check(aoti_torch_new_tensor_handle(tensor.Handle, out nint handle), "new_tensor_handle");
            return new((ulong)handle);
        }

        public static implicit operator Argument(double value) => new(BitConverter.DoubleToUInt64Bits(value));

        public static implicit operator Argument(long value) => new((ulong)value);

        public static implicit operator Argument(bool value) => new(value ? 1ul : 0ul);

        public static implicit operator Argument(long[] values)
        {
            Check(torch_new_list_reserve_size((nuint)values.Length, out nint list), "new_list");
            foreach (long value in values)
                Check(torch_list_push_back(list, (ulong)value), "list_push_back");
            return new((ulong)list);
        }

        /// <summary>A value for a parameter that is declared optional.</summary>
        public static Argument Some(Argument value)
        {
            var box = (ulong*)AllocateNative(8);
            *box = value.Bits;
            return new((ulong)box);
        }
    }

    /// <summary>Calls <c>aten::name.overload</c> and returns its first result.</summary>
    /// <exception cref="InvalidOperationException">libtorch refused the call; its message is on standard
    /// error.</exception>
    public static Tensor Call(string name, string overload, params ReadOnlySpan<Argument> arguments)
    {
        Span<ulong> stack = stackalloc ulong[Math.Max(arguments.Length, 8)];
        for (int i = 0; i < arguments.Length; i++)
            stack[i] = arguments[i].Bits;
        fixed (byte* op = Encoding.UTF8.GetBytes("aten::" + name + "\0"))
        fixed (byte* variant = Encoding.UTF8.GetBytes(overload + "\0"))
        fixed (ulong* top = stack)
            if (torch_call_dispatcher(op, variant, top, AbiVersion) != 0)
                throw new InvalidOperationException(
                    $"libtorch refused aten::{name}{(overload == "" ? "" : "." + overload)}; "
                        + "its message is on standard error"
                );
        return Tensor.UnsafeCreateTensor((nint)stack[0]);
    }

    /// <summary>
    /// A contiguous tensor over memory that the caller keeps alive and frees: on the CPU, or on this CUDA device.
    /// </summary>
    public static Tensor FromPointer(nint memory, long[] shape, ScalarType type, int? cudaDevice = null) =>
        FromPointer(memory, shape, type, cudaDevice, shape[^1]);

    /// <summary>The same; the rows of a matrix begin <paramref name="rowStride"/> elements apart.</summary>
    public static Tensor FromPointer(nint memory, long[] shape, ScalarType type, int? cudaDevice, long rowStride)
    {
        long* sizes = stackalloc long[shape.Length],
            strides = stackalloc long[shape.Length];
        long stride = 1;
        for (int i = shape.Length - 1; i >= 0; i--)
        {
            sizes[i] = shape[i];
            strides[i] = stride;
            stride = i == shape.Length - 1 ? rowStride : checked(stride * shape[i]);
        }
        Check(
            aoti_torch_create_tensor_from_blob(
                memory,
                shape.Length,
                sizes,
                strides,
                0,
                (int)type,
                cudaDevice is null ? 0 : 1,
                cudaDevice ?? -1,
                out nint handle
            ),
            "create_tensor_from_blob"
        );
        return Tensor.UnsafeCreateTensor(handle);
    }

    /// <summary>Bytes of an element.</summary>
    public static int ElementSize(this ScalarType type) =>
        type switch
        {
            ScalarType.Float64 or ScalarType.Int64 => 8,
            ScalarType.Int32 => 4,
            ScalarType.Int16 => 2,
            ScalarType.Byte or ScalarType.Int8 or ScalarType.Bool => 1,
            _ => ElementType.Of(type).Bytes,
        };

    /// <summary>Address of the first element, storage offset included.</summary>
    public static nint DataPointer(Tensor tensor)
    {
        Check(aoti_torch_get_data_ptr(tensor.Handle, out nint pointer), "get_data_ptr");
        return pointer;
    }

    private static void Check(int code, string what)
    {
        if (code != 0)
            throw new InvalidOperationException($"libtorch: {what} failed with code {code}");
    }

    [LibraryImport(Library)]
    private static partial int torch_call_dispatcher(byte* name, byte* overload, ulong* stack, ulong abi);

    [LibraryImport(Library)]
    private static partial int aoti_torch_new_tensor_handle(nint original, out nint handle);

    [LibraryImport(Library)]
    private static partial int torch_new_list_reserve_size(nuint size, out nint list);

    [LibraryImport(Library)]
    private static partial int torch_list_push_back(nint list, ulong value);

    [LibraryImport(Library)]
    private static partial int aoti_torch_get_data_ptr(nint tensor, out nint pointer);

    [LibraryImport(Library)]
    private static partial int aoti_torch_create_tensor_from_blob(
        nint data,
        long dimensions,
        long* sizes,
        long* strides,
        long offset,
        int type,
        int deviceType,
        int deviceIndex,
        out nint handle
    );

    /// <summary>operator new: optional values are freed by libtorch with operator delete.</summary>
    [LibraryImport("libstdc++.so.6", EntryPoint = "_Znwm")]
    private static partial nint AllocateNative(nuint size);
}
