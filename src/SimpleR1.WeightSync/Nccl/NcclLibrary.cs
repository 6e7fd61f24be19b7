using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using SimpleR1.Tensors.Cuda.Libraries;

namespace SimpleR1.WeightSync.Nccl;

/// <summary>
/// The used part of NVIDIA's collective library. Communicators are non-blocking (NCCL 2.18 and newer): no call here
/// waits for another process.
/// </summary>
internal static unsafe partial class NcclLibrary
{
    private const string Library = "nccl";
    public const int Success = 0; // ncclResult_t
    public const int InProgress = 7;
    public const int Bytes = 1; // ncclDataType_t
    public const int Float32 = 7;
    public const int Sum = 0; // ncclRedOp_t
    public const int IdBytes = 128;

    /// <summary>ncclUniqueId</summary>
    [StructLayout(LayoutKind.Sequential, Size = IdBytes)]
    public struct UniqueId
    {
        public long First; // the bytes are private to NCCL
    }

    /// <summary>
    /// ncclConfig_t as of NCCL 2.18. Newer libraries accept it by its size and version, and use their defaults for the
    /// rest.
    /// </summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct Config
    {
        private const int Undefined = int.MinValue;
        public nuint Size;
        public uint Magic;
        public uint Version;
        public int Blocking;
        public int CgaClusterSize;
        public int MinCtas;
        public int MaxCtas;
        public nint NetName;
        public int SplitShare;

        public static Config NonBlocking =>
            new()
            {
                Size = (nuint)sizeof(Config),
                Magic = 0xcafebeef,
                Version = 21800,
                Blocking = 0,
                CgaClusterSize = Undefined,
                MinCtas = Undefined,
                MaxCtas = Undefined,
                SplitShare = Undefined,
            };
    }

    static NcclLibrary()
    {
        NativeLibrary.SetDllImportResolver(
            typeof(NcclLibrary).Assembly,
            (name, _, _) => name == Library ? CudaLibraries.Load(CudaLibraries.Nccl) : 0
        );
        Missing = FindMissing(); // after the resolver is set: it calls NCCL
    }

    /// <summary>Why NCCL cannot be used here; null when it can.</summary>
    public static string? Missing { get; }

    private static string? FindMissing()
    {
        try
        {
            Check(ncclGetVersion(out int version));
            return version >= 21800
                ? null
                : $"NCCL {version / 10000}.{version / 100 % 100} is too old: 2.18 or newer is needed "
                    + "(pip install nvidia-nccl-cu13)";
        }
        catch (DllNotFoundException e)
        {
            return e.Message;
        }
    }

    /// <exception cref="IOException">The call failed; the message holds NCCL's reason.</exception>
    public static void Check(int result, [CallerArgumentExpression(nameof(result))] string call = "")
    {
        if (result is Success or InProgress)
            return;
        string? error = Marshal.PtrToStringUTF8(ncclGetErrorString(result));
        string? last = Marshal.PtrToStringUTF8(ncclGetLastError(0));
        throw new IOException($"NCCL: {call.Split('(')[0]}: {error}; {last}");
    }

    [LibraryImport(Library)]
    public static partial int ncclGetVersion(out int version);

    [LibraryImport(Library)]
    public static partial nint ncclGetErrorString(int result);

    [LibraryImport(Library)]
    public static partial nint ncclGetLastError(nint communicator);

    [LibraryImport(Library)]
    public static partial int ncclGetUniqueId(UniqueId* id);

    [LibraryImport(Library)]
    public static partial int ncclCommInitRankConfig(
        nint* communicator,
        int size,
        UniqueId id,
        int rank,
        Config* config
    );

    [LibraryImport(Library)]
    public static partial int ncclCommGetAsyncError(nint communicator, out int error);

    [LibraryImport(Library)]
    public static partial int ncclBroadcast(
        nint from,
        nint to,
        nuint count,
        int type,
        int root,
        nint communicator,
        nint stream
    );

    [LibraryImport(Library)]
    public static partial int ncclAllReduce(
        nint from,
        nint to,
        nuint count,
        int type,
        int operation,
        nint communicator,
        nint stream
    );

    [LibraryImport(Library)]
    public static partial int ncclGroupStart();

    [LibraryImport(Library)]
    public static partial int ncclGroupEnd();

    [LibraryImport(Library)]
    public static partial int ncclCommAbort(nint communicator);
}
