using System.Globalization;
using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace SimpleR1.Tensors.Cuda.Libraries;

/// <summary>
/// y = x · Wᵀ + b by NVIDIA's cuBLASLt. It has many kernels for a shape, and its own first choice is often far from
/// the fastest where a batch is small. So the candidates are measured once a machine, and the choice is kept on disk,
/// next to the compiled kernels: later runs choose the same and give the same bits. Products accumulate in f32 (f32
/// operands are not rounded to TF32), also where a kernel cuts the inputs into parts and adds these up.
/// </summary>
internal sealed unsafe partial class CublasLt : IDisposable
{
    private const string Library = CudaLibraries.CublasLt;
    private const int Compute32F = 68,
        Real32F = 0; // cublasComputeType_t, cudaDataType_t
    private const int TransposeA = 3,
        Epilogue = 7,
        BiasPointer = 8,
        BiasDataType = 26; // cublasLtMatmulDescAttributes_t
    private const int EpilogueBias = 4; // cublasLtEpilogue_t
    private const int MaxWorkspace = 1,
        ReductionSchemes = 3,
        MinAlignmentA = 5; // cublasLtMatmulPreferenceAttributes_t
    private const uint ReductionInComputeType = 2; // cublasLtReductionScheme_t
    private const int RowsPerChoice = 64; // above, shapes of nearly the same number of rows share a choice
    private const int MeasuredRows = 1024; // the first choice serves larger products well
    private const int MostCandidates = 16,
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

    /// <summary>What a choice is made for.</summary>
    private readonly record struct Shape
    {
        public required int Rows { get; init; }
        public required int Outputs { get; init; }
        public required int Inputs { get; init; }
        public required ScalarType Type { get; init; }
        public required ScalarType OutputType { get; init; }
        public required bool Bias { get; init; }
    }

    /// <summary>
    /// A product as the library sees it: descriptors of the operation and of its matrices, and their addresses.
    /// </summary>
    private struct Product
    {
        public nint Operation;

        /// <summary>Layouts of the weights, of x and of y.</summary>
        public nint A,
            B,
            C;
        public nint Weight,
            X,
            Y;

        public readonly void Destroy()
        {
            foreach (nint layout in (ReadOnlySpan<nint>)[A, B, C])
                if (layout != 0)
                    _ = cublasLtMatrixLayoutDestroy(layout);
            _ = cublasLtMatmulDescDestroy(Operation);
        }
    }

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
        string deviceName = string.Concat(device.Name.Select(c => char.IsLetterOrDigit(c) ? c : '-'));
        file = Path.Combine(KernelLibrary.CacheFolder(), $"products-{deviceName}-{cublasLtGetVersion()}-f32sums.txt");
        ReadChoices();
    }

    /// <param name="x">[rows, inputs], like <paramref name="weight"/> [outputs, inputs] and <paramref name="bias"/>
    /// [outputs]</param>
    /// <param name="y">[rows, outputs], of the same type or f32</param>
    public void Linear(Tensor x, Tensor weight, Tensor? bias, Tensor y)
    {
        var shape = new Shape
        {
            Rows = (int)x.shape[0],
            Outputs = (int)weight.shape[0],
            Inputs = (int)weight.shape[1],
            Type = x.dtype,
            OutputType = y.dtype,
            Bias = bias is not null,
        };
        device.Use();
        var product = Describe(shape, bias);
        try
        {
            product.Weight = Aten.DataPointer(weight);
            product.X = Aten.DataPointer(x);
            product.Y = Aten.DataPointer(y);
            var choice = ChoiceFor(shape, bias, product);
            if (Multiply(product, &choice) == 0)
                return;

            // The kernel fits the most rows that share the choice, but not this number of them.
            choice = Candidates(shape, bias)[0];
            Check(Multiply(product, &choice), $"cublasLtMatmul {shape}");
        }
        finally
        {
            product.Destroy();
        }
    }

    /// <summary>
    /// In cuBLAS's column-major view: yᵀ [outputs × rows] = Wᵀ, stored as [inputs × outputs] and transposed, times xᵀ
    /// [inputs × rows].
    /// </summary>
    private static Product Describe(Shape shape, Tensor? bias)
    {
        var product = new Product();
        Check(cublasLtMatmulDescCreate(out product.Operation, Compute32F, Real32F), "cublasLtMatmulDescCreate");
        try
        {
            Set(product.Operation, TransposeA, 1);
            if (bias is not null)
            {
                Set(product.Operation, Epilogue, EpilogueBias);
                Set(product.Operation, BiasDataType, DataType(bias.dtype));
                nint pointer = Aten.DataPointer(bias);
                Check(
                    cublasLtMatmulDescSetAttribute(product.Operation, BiasPointer, &pointer, (nuint)sizeof(nint)),
                    "cublasLtMatmulDescSetAttribute"
                );
            }
            product.A = Layout(shape.Type, shape.Inputs, shape.Outputs);
            product.B = Layout(shape.Type, shape.Inputs, shape.Rows);
            product.C = Layout(shape.OutputType, shape.Outputs, shape.Rows);
            return product;
        }
        catch
        {
            product.Destroy();
            throw;
        }
    }

    /// <summary>A column-major matrix whose columns follow each other without a gap.</summary>
    private static nint Layout(ScalarType type, int rows, int columns)
    {
        Check(
            cublasLtMatrixLayoutCreate(out nint layout, DataType(type), (ulong)rows, (ulong)columns, rows),
            "cublasLtMatrixLayoutCreate"
        );
        return layout;
    }

    private Choice ChoiceFor(Shape shape, Tensor? bias, in Product product)
    {
        int rows = shape.Rows;
        var key = shape with
        {
            Rows = rows <= RowsPerChoice ? rows : (rows + RowsPerChoice - 1) / RowsPerChoice * RowsPerChoice,
        };
        if (!choices.TryGetValue(key, out var choice))
            choices[key] = choice = Choose(key, bias, product);
        return choice;
    }

    /// <param name="product">A product with at most the key's number of rows, to measure.</param>
    private Choice Choose(Shape key, Tensor? bias, in Product product)
    {
        var found = Candidates(key, bias);
        if (found.Length == 1 || key.Rows > MeasuredRows || device.Capturing)
            return found[0];

        var best = Fastest(found, product);
        Keep(key, best);
        return best;
    }

    /// <summary>The kernels that cuBLASLt proposes for a shape, its first choice first; at least one.</summary>
    private Choice[] Candidates(Shape shape, Tensor? bias)
    {
        var product = Describe(shape, bias);
        Check(cublasLtMatmulPreferenceCreate(out nint preference), "cublasLtMatmulPreferenceCreate");
        try
        {
            nuint bytes = (nuint)workspace.Bytes;
            Prefer(preference, MaxWorkspace, &bytes, (nuint)sizeof(nuint));
            uint schemes = ReductionInComputeType; // the default lets parts be added in bf16
            Prefer(preference, ReductionSchemes, &schemes, sizeof(uint));
            uint aligned = 128; // where slots of the flat weights begin; all else is aligned as cuBLAS expects
            Prefer(preference, MinAlignmentA, &aligned, sizeof(uint));

            Choice* found = stackalloc Choice[MostCandidates];
            int count;
            int status = cublasLtMatmulAlgoGetHeuristic(
                handle,
                product.Operation,
                product.A,
                product.B,
                product.C,
                product.C,
                preference,
                MostCandidates,
                found,
                &count
            );
            Check(status, $"cublasLtMatmulAlgoGetHeuristic {shape}");
            if (count == 0)
                throw new CudaException($"cuBLASLt has no kernel for {shape}");
            return new ReadOnlySpan<Choice>(found, count).ToArray();
        }
        finally
        {
            _ = cublasLtMatmulPreferenceDestroy(preference);
            product.Destroy();
        }
    }

    private static void Prefer(nint preference, int attribute, void* value, nuint size) =>
        Check(
            cublasLtMatmulPreferenceSetAttribute(preference, attribute, value, size),
            "cublasLtMatmulPreferenceSetAttribute"
        );

    private Choice Fastest(Choice[] candidates, in Product product)
    {
        using var flush = device.Allocate(FlushBytes, "measuring products");
        using CudaEvent begin = new(device, timed: true),
            end = new(device, timed: true);
        int fastest = 0;
        double least = double.MaxValue;
        for (int i = 0; i < candidates.Length; i++)
        {
            var candidate = candidates[i];
            double time = double.MaxValue;
            for (int round = 0; round < Rounds; round++)
            {
                device.Fill(flush.Pointer, 0, FlushBytes);
                begin.Record();
                if (Multiply(product, &candidate) != 0)
                    break; // the candidate can't compute this shape after all
                end.Record();
                end.Wait();
                if (round > 0) // the first round loads the kernel
                    time = Math.Min(time, end.MillisecondsSince(begin));
            }
            if (time >= 0.97 * least)
                continue; // the heuristic's order decides between equals
            fastest = i;
            least = time;
        }
        return candidates[fastest];
    }

    private int Multiply(in Product product, Choice* choice)
    {
        float one = 1,
            zero = 0;
        return cublasLtMatmul(
            handle,
            product.Operation,
            &one,
            product.Weight,
            product.A,
            product.X,
            product.B,
            &zero,
            product.Y,
            product.C,
            product.Y,
            product.C,
            choice,
            workspace.Pointer,
            (nuint)workspace.Bytes,
            device.Stream
        );
    }

    // A line of the file: rows outputs inputs type outputType bias, then the choice's bytes.

    private void Keep(Shape key, Choice choice)
    {
        string bytes = Convert.ToHexString(new ReadOnlySpan<byte>(&choice, sizeof(Choice)));
        string line = string.Create(
            CultureInfo.InvariantCulture,
            $"{key.Rows} {key.Outputs} {key.Inputs} {key.Type} {key.OutputType} {key.Bias} {bytes}\n"
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
            var key = new Shape
            {
                Rows = int.Parse(rows, CultureInfo.InvariantCulture),
                Outputs = int.Parse(outputs, CultureInfo.InvariantCulture),
                Inputs = int.Parse(inputs, CultureInfo.InvariantCulture),
                Type = ElementType.ParseScalar(type).Scalar,
                OutputType = ElementType.ParseScalar(outputType).Scalar,
                Bias = bool.Parse(bias),
            };
            choices.TryAdd(key, MemoryMarshal.Read<Choice>(Convert.FromHexString(bytes)));
        }
    }

    private static void Set(nint operation, int attribute, int value) =>
        Check(
            cublasLtMatmulDescSetAttribute(operation, attribute, &value, sizeof(int)),
            "cublasLtMatmulDescSetAttribute"
        );

    private static int DataType(ScalarType type) => ElementType.Of(type).CudaDataType;

    private static void Check(int status, string call)
    {
        if (status != 0)
            throw new CudaException($"{call}: {Marshal.PtrToStringUTF8(cublasLtGetStatusString(status))} ({status})");
    }

    public void Dispose()
    {
        nint freed = Interlocked.Exchange(ref handle, 0);
        if (freed != 0)
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
