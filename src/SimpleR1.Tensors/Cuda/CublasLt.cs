using System.Globalization;
using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace SimpleR1.Tensors.Cuda;

/// <summary>
/// y = x · Wᵀ + b by NVIDIA's cuBLASLt. It has many kernels for a shape, and its own first choice is often far from the fastest where a batch is
/// small: the candidates are measured once a machine, the choice is kept on disk (beside the kernels), and is the same from then on, so that
/// runs give the same bits. Products accumulate in f32 (f32 operands are not rounded to TF32).
/// </summary>
internal sealed unsafe partial class CublasLt : IDisposable
{
    private const string Library = CudaLibraries.CublasLt;
    private const int Compute32F = 68,
        Real32F = 0,
        Real16F = 2,
        Real16BF = 14; // cublasComputeType_t, cudaDataType
    private const int TransposeA = 3,
        Epilogue = 7,
        BiasPointer = 8,
        BiasDataType = 26; // cublasLtMatmulDescAttributes_t
    private const int EpilogueBias = 4,
        MaxWorkspace = 1,
        MinAlignmentA = 5; // cublasLtEpilogue_t, cublasLtMatmulPreferenceAttributes_t
    private const int RowsPerChoice = 64; // above, shapes of nearly the same number of rows share a choice
    private const int MeasuredRows = 1024; // larger products are served well by the first choice
    private const int Candidates = 16,
        Rounds = 4;
    private const long FlushBytes = 128L << 20; // more than a cache holds: in a model's step, weights come from memory

    /// <summary>cublasLtMatmulAlgo_t and what the heuristic says about it (cublasLtMatmulHeuristicResult_t).</summary>
    [StructLayout(LayoutKind.Sequential, Size = 96)]
    private struct Choice
    {
        public fixed ulong Algorithm[8];
        public nuint WorkspaceBytes;
        public int State;
        public float Waves;
    }

    private readonly record struct Shape(
        int Rows,
        int Outputs,
        int Inputs,
        ScalarType Type,
        ScalarType OutputType,
        bool Bias
    );

    private readonly CudaDevice device;
    private readonly DeviceMemory workspace;
    private readonly Dictionary<Shape, Choice> choices = [];
    private readonly string file;
    private nint handle;

    public CublasLt(CudaDevice device, long workspaceBytes)
    {
        this.device = device;
        device.Use();
        Check(cublasLtCreate(out handle), "cublasLtCreate");
        workspace = device.Allocate(workspaceBytes, "cuBLASLt's workspace");
        file = Path.Combine(
            KernelLibrary.CacheFolder(),
            $"products-{string.Concat(device.Name.Select(c => char.IsLetterOrDigit(c) ? c : '-'))}-{cublasLtGetVersion()}.txt"
        );
        ReadChoices();
    }

    /// <param name="x">[rows, inputs], like <paramref name="weight"/> [outputs, inputs] and <paramref name="bias"/> [outputs]</param>
    /// <param name="y">[rows, outputs], of the same type or f32</param>
    public void Linear(Tensor x, Tensor weight, Tensor? bias, Tensor y)
    {
        int rows = (int)x.shape[0],
            outputs = (int)weight.shape[0],
            inputs = (int)weight.shape[1];
        var shape = new Shape(rows, outputs, inputs, x.dtype, y.dtype, bias is not null);
        device.Use();
        nint operation,
            a = 0,
            b = 0,
            c = 0;
        Check(cublasLtMatmulDescCreate(out operation, Compute32F, Real32F), "cublasLtMatmulDescCreate");
        try
        {
            // In cuBLAS's column-major eyes: yᵀ [outputs × rows] = Wᵀ-stored-as-[inputs × outputs], transposed, times xᵀ [inputs × rows].
            Set(operation, TransposeA, 1);
            if (bias is not null)
            {
                Set(operation, Epilogue, EpilogueBias);
                Set(operation, BiasDataType, DataType(bias.dtype));
                nint pointer = Aten.DataPointer(bias);
                Check(
                    cublasLtMatmulDescSetAttribute(operation, BiasPointer, &pointer, (nuint)sizeof(nint)),
                    "cublasLtMatmulDescSetAttribute"
                );
            }
            Check(
                cublasLtMatrixLayoutCreate(out a, DataType(weight.dtype), (ulong)inputs, (ulong)outputs, inputs),
                "cublasLtMatrixLayoutCreate"
            );
            Check(
                cublasLtMatrixLayoutCreate(out b, DataType(x.dtype), (ulong)inputs, (ulong)rows, inputs),
                "cublasLtMatrixLayoutCreate"
            );
            Check(
                cublasLtMatrixLayoutCreate(out c, DataType(y.dtype), (ulong)outputs, (ulong)rows, outputs),
                "cublasLtMatrixLayoutCreate"
            );
            var key = shape with
            {
                Rows = rows <= RowsPerChoice ? rows : (rows + RowsPerChoice - 1) / RowsPerChoice * RowsPerChoice,
            };
            if (!choices.TryGetValue(key, out var choice))
                choices[key] = choice = Choose(key, operation, a, b, c, x, weight, y);
            Check(Multiply(operation, a, b, c, x, weight, y, &choice), $"cublasLtMatmul {shape}");
        }
        finally
        {
            foreach (nint layout in (ReadOnlySpan<nint>)[a, b, c])
                if (layout != 0)
                    _ = cublasLtMatrixLayoutDestroy(layout);
            _ = cublasLtMatmulDescDestroy(operation);
        }
    }

    private Choice Choose(Shape key, nint operation, nint a, nint b, nint c, Tensor x, Tensor weight, Tensor y)
    {
        Check(cublasLtMatmulPreferenceCreate(out nint preference), "cublasLtMatmulPreferenceCreate");
        try
        {
            nuint bytes = (nuint)workspace.Bytes;
            Check(
                cublasLtMatmulPreferenceSetAttribute(preference, MaxWorkspace, &bytes, (nuint)sizeof(nuint)),
                "cublasLtMatmulPreferenceSetAttribute"
            );
            uint aligned = 128; // where slots of the flat weights begin; all else is aligned as cuBLAS expects
            Check(
                cublasLtMatmulPreferenceSetAttribute(preference, MinAlignmentA, &aligned, sizeof(uint)),
                "cublasLtMatmulPreferenceSetAttribute"
            );
            Choice* found = stackalloc Choice[Candidates];
            int count;
            Check(
                cublasLtMatmulAlgoGetHeuristic(handle, operation, a, b, c, c, preference, Candidates, found, &count),
                $"cublasLtMatmulAlgoGetHeuristic {key}"
            );
            if (count == 0)
                throw new CudaException($"cuBLASLt has no kernel for {key}");
            if (count == 1 || key.Rows > MeasuredRows || device.Capturing)
                return found[0];
            var best = Fastest(found, count, operation, a, b, c, x, weight, y);
            Keep(key, best);
            return best;
        }
        finally
        {
            _ = cublasLtMatmulPreferenceDestroy(preference);
        }
    }

    private Choice Fastest(
        Choice* candidates,
        int count,
        nint operation,
        nint a,
        nint b,
        nint c,
        Tensor x,
        Tensor weight,
        Tensor y
    )
    {
        using var flush = device.Allocate(FlushBytes, "measuring products");
        using CudaEvent begin = new(device, timed: true),
            end = new(device, timed: true);
        int fastest = 0;
        double least = double.MaxValue;
        for (int i = 0; i < count; i++)
        {
            double time = double.MaxValue;
            for (int round = 0; round < Rounds; round++)
            {
                device.Fill(flush.Pointer, 0, FlushBytes);
                begin.Record();
                if (Multiply(operation, a, b, c, x, weight, y, candidates + i) != 0)
                    break; // it can't do this shape after all
                end.Record();
                end.Wait();
                if (round > 0)
                    time = Math.Min(time, end.MillisecondsSince(begin)); // the first loads it
            }
            if (time >= 0.97 * least)
                continue; // the heuristic's order decides between equals
            (fastest, least) = (i, time);
        }
        return candidates[fastest];
    }

    private int Multiply(nint operation, nint a, nint b, nint c, Tensor x, Tensor weight, Tensor y, Choice* choice)
    {
        float one = 1,
            zero = 0;
        return cublasLtMatmul(
            handle,
            operation,
            &one,
            Aten.DataPointer(weight),
            a,
            Aten.DataPointer(x),
            b,
            &zero,
            Aten.DataPointer(y),
            c,
            Aten.DataPointer(y),
            c,
            choice,
            workspace.Pointer,
            (nuint)workspace.Bytes,
            device.Stream
        );
    }

    // A line of the file: rows outputs inputs type outputType bias, then the choice's bytes.

    private void Keep(Shape key, Choice choice)
    {
        string line = string.Create(
            CultureInfo.InvariantCulture,
            $"{key.Rows} {key.Outputs} {key.Inputs} {key.Type} {key.OutputType} {key.Bias} {Convert.ToHexString(new ReadOnlySpan<byte>(&choice, sizeof(Choice)))}\n"
        );
        try
        {
            Directory.CreateDirectory(Path.GetDirectoryName(file)!);
            File.AppendAllText(file, line);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException) { } // measured again next time
    }

    private void ReadChoices()
    {
        if (!File.Exists(file))
            return;
        foreach (string line in File.ReadLines(file))
        {
            if (
                line.Split(' ')
                is not [var rows, var outputs, var inputs, var type, var outputType, var bias, { Length: 2 * 96 } bytes]
            )
                continue; // cut off by a crash
            var key = new Shape(
                int.Parse(rows, CultureInfo.InvariantCulture),
                int.Parse(outputs, CultureInfo.InvariantCulture),
                int.Parse(inputs, CultureInfo.InvariantCulture),
                Enum.Parse<ScalarType>(type),
                Enum.Parse<ScalarType>(outputType),
                bool.Parse(bias)
            );
            choices.TryAdd(key, MemoryMarshal.Read<Choice>(Convert.FromHexString(bytes)));
        }
    }

    private static void Set(nint operation, int attribute, int value) =>
        Check(
            cublasLtMatmulDescSetAttribute(operation, attribute, &value, sizeof(int)),
            "cublasLtMatmulDescSetAttribute"
        );

    private static int DataType(ScalarType type) =>
        type switch
        {
            ScalarType.Float32 => Real32F,
            ScalarType.Float16 => Real16F,
            ScalarType.BFloat16 => Real16BF,
            _ => throw new ArgumentException($"cuBLASLt: expected f32, f16 or bf16, found {type}"),
        };

    private static void Check(int status, string call)
    {
        if (status != 0)
            throw new CudaException($"{call}: {Marshal.PtrToStringUTF8(cublasLtGetStatusString(status))} ({status})");
    }

    public void Dispose()
    {
        if (Interlocked.Exchange(ref handle, 0) is var freed and not 0)
            _ = cublasLtDestroy(freed);
        workspace.Dispose();
    }

    [LibraryImport(Library)]
    private static partial nint cublasLtGetStatusString(int status);

    [LibraryImport(Library)]
    private static partial nuint cublasLtGetVersion();

    [LibraryImport(Library)]
    private static partial int cublasLtCreate(out nint handle);

    [LibraryImport(Library)]
    private static partial int cublasLtDestroy(nint handle);

    [LibraryImport(Library)]
    private static partial int cublasLtMatmulDescCreate(out nint operation, int computeType, int scaleType);

    [LibraryImport(Library)]
    private static partial int cublasLtMatmulDescDestroy(nint operation);

    [LibraryImport(Library)]
    private static partial int cublasLtMatmulDescSetAttribute(nint operation, int attribute, void* value, nuint size);

    [LibraryImport(Library)]
    private static partial int cublasLtMatrixLayoutCreate(
        out nint layout,
        int type,
        ulong rows,
        ulong columns,
        long leading
    );

    [LibraryImport(Library)]
    private static partial int cublasLtMatrixLayoutDestroy(nint layout);

    [LibraryImport(Library)]
    private static partial int cublasLtMatmulPreferenceCreate(out nint preference);

    [LibraryImport(Library)]
    private static partial int cublasLtMatmulPreferenceDestroy(nint preference);

    [LibraryImport(Library)]
    private static partial int cublasLtMatmulPreferenceSetAttribute(
        nint preference,
        int attribute,
        void* value,
        nuint size
    );

    [LibraryImport(Library)]
    private static partial int cublasLtMatmulAlgoGetHeuristic(
        nint handle,
        nint operation,
        nint a,
        nint b,
        nint c,
        nint d,
        nint preference,
        int wanted,
        Choice* results,
        int* found
    );

    [LibraryImport(Library)]
    private static partial int cublasLtMatmul(
        nint handle,
        nint operation,
        void* alpha,
        nint aData,
        nint a,
        nint bData,
        nint b,
        void* beta,
        nint cData,
        nint c,
        nint dData,
        nint d,
        void* algorithm,
        nint workspace,
        nuint workspaceBytes,
        nint stream
    );
}
