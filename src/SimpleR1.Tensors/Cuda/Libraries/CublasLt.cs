using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace SimpleR1.Tensors.Cuda.Libraries;

/// <summary>
/// Matrix products by NVIDIA's cuBLASLt: y = x · Wᵀ + b, and its gradients. It has many kernels for a shape, and its
/// own first choice is often far from the fastest. So the candidates are measured once a machine, and the choice is
/// kept on disk, next to the compiled kernels: later runs choose the same and give the same bits. Products accumulate
/// in f32 (f32 operands are not rounded to TF32), also where a kernel cuts the inputs into parts and adds these up.
/// </summary>
internal sealed unsafe partial class CublasLt : IDisposable
{
    private const string Library = CudaLibraries.CublasLt;
    private const int Compute32F = 68,
        Real32F = 0; // cublasComputeType_t, cudaDataType_t
    private const int TransposeA = 3,
        TransposeB = 4,
        Epilogue = 7,
        BiasPointer = 8,
        BiasDataType = 26; // cublasLtMatmulDescAttributes_t
    private const int EpilogueBias = 4; // cublasLtEpilogue_t
    private const int MaxWorkspace = 1,
        ReductionSchemes = 3,
        MinAlignmentA = 5; // cublasLtMatmulPreferenceAttributes_t
    private const uint ReductionInComputeType = 2; // cublasLtReductionScheme_t
    private const int MostCandidates = 16,
        Rounds = 4;
    private const double HopelessRatio = 1.5; // a candidate so much slower than the best is measured once only
    private const long FlushBytes = 128L << 20; // more than a cache holds: in a model's step, weights come from memory

    /// <summary>
    /// A product as the library sees it: descriptors of the operation and of its matrices, and their addresses.
    /// </summary>
    private struct Product
    {
        public nint Operation;

        /// <summary>Layouts of the two factors and of the result.</summary>
        public nint LayoutA,
            LayoutB,
            LayoutC;

        /// <summary>Addresses of the same.</summary>
        public nint A,
            B,
            C;

        /// <summary>1 adds to what the result's memory holds, 0 overwrites it.</summary>
        public float Beta;

        public readonly void Destroy()
        {
            foreach (nint layout in (ReadOnlySpan<nint>)[LayoutA, LayoutB, LayoutC])
                if (layout != 0)
                    _ = cublasLtMatrixLayoutDestroy(layout);
            _ = cublasLtMatmulDescDestroy(Operation);
        }
    }

    private readonly CudaDevice device;
    private readonly DeviceMemory workspace;
    private readonly ProductChoices choices;
    private nint handle;

    public CublasLt(CudaDevice device, long workspaceBytes)
    {
        this.device = device;
        device.Use();
        Check(cublasLtCreate(out handle), "cublasLtCreate");
        workspace = device.Allocate(workspaceBytes, "cuBLASLt's workspace");
        string deviceName = string.Concat(device.Name.Select(c => char.IsLetterOrDigit(c) ? c : '-'));
        string file = $"products-{deviceName}-{cublasLtGetVersion()}-2.txt";
        choices = new(Path.Combine(KernelLibrary.CacheFolder(), file));
    }

    /// <summary>y = x · Wᵀ + b</summary>
    /// <param name="x">[rows, inputs], like <paramref name="weight"/> [outputs, inputs] and <paramref name="bias"/>
    /// [outputs]</param>
    /// <param name="y">[rows, outputs], of the same type or f32</param>
    public void Linear(Tensor x, Tensor weight, Tensor? bias, Tensor y) =>
        Multiply(ProductKey.Linear(x, weight, y, bias is not null), new(weight, x, y, bias));

    /// <summary>dx = dy · W: the gradient of <see cref="Linear"/>'s input.</summary>
    /// <param name="dy">[rows, outputs]; rows may lie further apart than they are long</param>
    /// <param name="dx">[rows, inputs]</param>
    public void LinearInputGradient(Tensor dy, Tensor weight, Tensor dx) =>
        Multiply(ProductKey.InputGradient(dy, weight, dx), new(weight, dy, dx, null));

    /// <summary>dW += dyᵀ · x: the gradient of <see cref="Linear"/>'s weight.</summary>
    /// <param name="dy">[rows, outputs]; rows may lie further apart than they are long</param>
    /// <param name="dWeight">[outputs, inputs] f32</param>
    public void LinearWeightGradient(Tensor dy, Tensor x, Tensor dWeight) =>
        Multiply(ProductKey.WeightGradient(dy, x, dWeight), new(x, dy, dWeight, null));

    /// <param name="A">The left factor in the library's column-major view.</param>
    /// <param name="B">The right one.</param>
    private readonly record struct Operands(Tensor A, Tensor B, Tensor Result, Tensor? Bias);

    private void Multiply(ProductKey key, Operands operands)
    {
        device.Use();
        nint bias = operands.Bias is null ? 0 : Aten.DataPointer(operands.Bias);
        var product = Describe(key, bias);
        try
        {
            product.A = Aten.DataPointer(operands.A);
            product.B = Aten.DataPointer(operands.B);
            product.C = Aten.DataPointer(operands.Result);
            var choice = ChoiceFor(key, bias, product);
            if (Multiply(product, &choice) == 0)
                return;

            // The kernel fits the most rows that share the choice, but not this number of them.
            choice = Candidates(key, bias)[0];
            Check(Multiply(product, &choice), $"cublasLtMatmul {key}");
        }
        finally
        {
            product.Destroy();
        }
    }

    private static Product Describe(ProductKey key, nint bias)
    {
        var product = new Product { Beta = key.Adds ? 1 : 0 };
        Check(cublasLtMatmulDescCreate(out product.Operation, Compute32F, Real32F), "cublasLtMatmulDescCreate");
        try
        {
            Set(product.Operation, TransposeA, key.A.Transposed ? 1 : 0);
            Set(product.Operation, TransposeB, key.B.Transposed ? 1 : 0);
            if (key.Bias)
            {
                Set(product.Operation, Epilogue, EpilogueBias);
                Set(product.Operation, BiasDataType, DataType(key.Type));
                Check(
                    cublasLtMatmulDescSetAttribute(product.Operation, BiasPointer, &bias, (nuint)sizeof(nint)),
                    "cublasLtMatmulDescSetAttribute"
                );
            }
            product.LayoutA = Layout(key.Type, key.A);
            product.LayoutB = Layout(key.Type, key.B);
            product.LayoutC = Layout(key.ResultType, key.Result);
            return product;
        }
        catch
        {
            product.Destroy();
            throw;
        }
    }

    private static nint Layout(ScalarType type, ColumnMatrix matrix)
    {
        Check(
            cublasLtMatrixLayoutCreate(
                out nint layout,
                DataType(type),
                (ulong)matrix.Rows,
                (ulong)matrix.Columns,
                matrix.Leading
            ),
            "cublasLtMatrixLayoutCreate"
        );
        return layout;
    }

    /// <param name="product">A product with at most the number of tokens that share a choice, to measure.</param>
    private ProductChoice ChoiceFor(ProductKey exact, nint bias, in Product product)
    {
        var key = exact.WithSharedTokens();
        if (choices.Find(key) is { } known)
            return known;
        var found = Candidates(key, bias);
        if (found.Length == 1 || device.Capturing)
            return choices.Use(key, found[0]);
        var measured = product;
        return choices.Decide(key, () => Fastest(found, measured, key.ResultBytes));
    }

    /// <summary>The kernels that cuBLASLt proposes for a product, its first choice first; at least one.</summary>
    private ProductChoice[] Candidates(ProductKey key, nint bias)
    {
        var product = Describe(key, bias);
        Check(cublasLtMatmulPreferenceCreate(out nint preference), "cublasLtMatmulPreferenceCreate");
        try
        {
            nuint bytes = (nuint)workspace.Bytes;
            Prefer(preference, MaxWorkspace, &bytes, (nuint)sizeof(nuint));
            uint schemes = ReductionInComputeType; // the default lets parts be added in bf16
            Prefer(preference, ReductionSchemes, &schemes, sizeof(uint));
            uint aligned = 128; // where slots of the flat weights begin; all else is aligned as cuBLAS expects
            Prefer(preference, MinAlignmentA, &aligned, sizeof(uint));

            ProductChoice* found = stackalloc ProductChoice[MostCandidates];
            int count;
            int status = cublasLtMatmulAlgoGetHeuristic(
                handle,
                product.Operation,
                product.LayoutA,
                product.LayoutB,
                product.LayoutC,
                product.LayoutC,
                preference,
                MostCandidates,
                found,
                &count
            );
            Check(status, $"cublasLtMatmulAlgoGetHeuristic {key}");
            if (count == 0)
                throw new CudaException($"cuBLASLt has no kernel for {key}");
            return new ReadOnlySpan<ProductChoice>(found, count).ToArray();
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

    private ProductChoice Fastest(ProductChoice[] candidates, Product product, long resultBytes)
    {
        using var flush = device.Allocate(FlushBytes, "measuring products");
        using var spare = product.Beta == 0 ? null : device.Allocate(resultBytes, "measuring products");
        if (spare is not null)
            product.C = spare.Pointer; // a product that adds must not be repeated on its result
        using CudaEvent begin = new(device, timed: true),
            end = new(device, timed: true);
        int fastest = 0;
        double least = double.MaxValue;
        for (int i = 0; i < candidates.Length; i++)
        {
            var candidate = candidates[i];
            double time = double.MaxValue;
            for (int round = 0; round < Rounds && (round < 2 || time < HopelessRatio * least); round++)
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

    private int Multiply(in Product product, ProductChoice* choice)
    {
        float one = 1,
            beta = product.Beta;
        return cublasLtMatmul(
            handle,
            product.Operation,
            &one,
            product.A,
            product.LayoutA,
            product.B,
            product.LayoutB,
            &beta,
            product.C,
            product.LayoutC,
            product.C,
            product.LayoutC,
            choice,
            workspace.Pointer,
            (nuint)workspace.Bytes,
            device.Stream
        );
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
        ProductChoice* results,
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
