using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace SimpleR1.Tensors.Cuda.Libraries;

/// <summary>The driver's C interface (libcuda), as far as it is used.</summary>
internal static unsafe partial class CudaDriver
{
    private const string Library = CudaLibraries.Driver;
    public const int OutOfMemory = 2,
        NotReady = 600;
    public const int Multiprocessors = 16,
        ComputeMajor = 75,
        ComputeMinor = 76,
        SharedMemoryPerMultiprocessor = 81,
        SharedMemoryPerBlock = 97; // CUdevice_attribute
    public const int MaxDynamicSharedSize = 8; // CUfunction_attribute
    public const int ProgrammaticSerialization = 6; // CUlaunchAttributeID
    public const uint LazyPeerAccess = 1; // CUipcMem_flags; the only one, and needed

    [StructLayout(LayoutKind.Sequential)]
    public struct LaunchConfig
    {
        public uint GridX,
            GridY,
            GridZ,
            BlockX,
            BlockY,
            BlockZ,
            SharedBytes;
        public nint Stream;
        public LaunchAttribute* Attributes;
        public uint AttributeCount;
    }

    [StructLayout(LayoutKind.Explicit, Size = 72)]
    public struct LaunchAttribute
    {
        [FieldOffset(0)]
        public int Id;

        [FieldOffset(8)]
        public int Value;
    }

    /// <summary>The driver's name of memory for other processes.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct IpcMemoryHandle
    {
        public const int Size = 64;
        public fixed byte Bytes[Size];
    }

    /// <exception cref="CudaException">The result is an error; the message has the call's text up to its first
    /// parenthesis.</exception>
    public static void Check(int result, [CallerArgumentExpression(nameof(result))] string call = "")
    {
        if (result == 0)
            return;
        byte* name = null,
            text = null;
        cuGetErrorName(result, &name);
        cuGetErrorString(result, &text);
        string function = call[..Math.Max(0, call.IndexOf('('))];
        string error = Marshal.PtrToStringUTF8((nint)name) ?? result.ToString();
        throw new CudaException($"{function}: {error}: {Marshal.PtrToStringUTF8((nint)text)}");
    }

    [LibraryImport(Library)]
    public static partial int cuGetErrorName(int error, byte** name);

    [LibraryImport(Library)]
    public static partial int cuGetErrorString(int error, byte** text);

    [LibraryImport(Library)]
    public static partial int cuInit(uint flags);

    [LibraryImport(Library)]
    public static partial int cuDriverGetVersion(out int version);

    [LibraryImport(Library)]
    public static partial int cuDeviceGetCount(out int count);

    [LibraryImport(Library)]
    public static partial int cuDeviceGet(out int device, int ordinal);

    [LibraryImport(Library)]
    public static partial int cuDeviceGetName(byte* name, int length, int device);

    [LibraryImport(Library)]
    public static partial int cuDeviceGetUuid_v2(byte* uuid, int device);

    [LibraryImport(Library)]
    public static partial int cuDeviceGetAttribute(out int value, int attribute, int device);

    [LibraryImport(Library)]
    public static partial int cuDevicePrimaryCtxRetain(out nint context, int device);

    [LibraryImport(Library)]
    public static partial int cuCtxSetCurrent(nint context);

    [LibraryImport(Library)]
    public static partial int cuMemGetInfo_v2(out nuint free, out nuint total);

    [LibraryImport(Library)]
    public static partial int cuMemAlloc_v2(out nint pointer, nuint bytes);

    [LibraryImport(Library)]
    public static partial int cuMemFree_v2(nint pointer);

    [LibraryImport(Library)]
    public static partial int cuMemGetAddressRange_v2(out nint start, out nuint bytes, nint pointer);

    [LibraryImport(Library)]
    public static partial int cuIpcGetMemHandle(out IpcMemoryHandle handle, nint pointer);

    [LibraryImport(Library)]
    public static partial int cuIpcOpenMemHandle_v2(out nint pointer, IpcMemoryHandle handle, uint flags);

    [LibraryImport(Library)]
    public static partial int cuIpcCloseMemHandle(nint pointer);

    [LibraryImport(Library)]
    public static partial int cuMemHostAlloc(out nint pointer, nuint bytes, uint flags);

    [LibraryImport(Library)]
    public static partial int cuMemFreeHost(nint pointer);

    [LibraryImport(Library)]
    public static partial int cuMemcpyHtoDAsync_v2(nint to, nint from, nuint bytes, nint stream);

    [LibraryImport(Library)]
    public static partial int cuMemcpyDtoHAsync_v2(nint to, nint from, nuint bytes, nint stream);

    [LibraryImport(Library)]
    public static partial int cuMemcpyDtoDAsync_v2(nint to, nint from, nuint bytes, nint stream);

    [LibraryImport(Library)]
    public static partial int cuMemsetD8Async(nint pointer, byte value, nuint bytes, nint stream);

    [LibraryImport(Library)]
    public static partial int cuStreamCreate(out nint stream, uint flags);

    [LibraryImport(Library)]
    public static partial int cuStreamSynchronize(nint stream);

    [LibraryImport(Library)]
    public static partial int cuEventCreate(out nint handle, uint flags);

    [LibraryImport(Library)]
    public static partial int cuEventRecord(nint handle, nint stream);

    [LibraryImport(Library)]
    public static partial int cuEventSynchronize(nint handle);

    [LibraryImport(Library)]
    public static partial int cuEventQuery(nint handle);

    [LibraryImport(Library)]
    public static partial int cuEventElapsedTime(out float milliseconds, nint from, nint to);

    [LibraryImport(Library)]
    public static partial int cuEventDestroy_v2(nint handle);

    [LibraryImport(Library)]
    public static partial int cuModuleLoadData(out nint module, byte* image);

    [LibraryImport(Library)]
    public static partial int cuModuleUnload(nint module);

    [LibraryImport(Library)]
    public static partial int cuModuleGetFunction(out nint function, nint module, byte* name);

    [LibraryImport(Library)]
    public static partial int cuFuncSetAttribute(nint function, int attribute, int value);

    [LibraryImport(Library)]
    public static partial int cuOccupancyMaxActiveBlocksPerMultiprocessor(
        out int blocks,
        nint function,
        int blockSize,
        nuint sharedBytes
    );

    [LibraryImport(Library)]
    public static partial int cuLaunchKernelEx(LaunchConfig* config, nint function, void** parameters, void** extra);

    [LibraryImport(Library)]
    public static partial int cuStreamBeginCapture_v2(nint stream, int mode);

    [LibraryImport(Library)]
    public static partial int cuStreamEndCapture(nint stream, out nint graph);

    [LibraryImport(Library)]
    public static partial int cuGraphInstantiateWithFlags(out nint executable, nint graph, ulong flags);

    [LibraryImport(Library)]
    public static partial int cuGraphDestroy(nint graph);

    [LibraryImport(Library)]
    public static partial int cuGraphExecDestroy(nint executable);

    [LibraryImport(Library)]
    public static partial int cuGraphLaunch(nint executable, nint stream);
}
