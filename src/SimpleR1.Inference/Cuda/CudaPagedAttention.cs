using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using static TorchSharp.torch;

namespace SimpleR1.Inference.Cuda;

/// <summary>
/// Attention over the paged cache on a GPU: rotates and stores the step's keys and values, then runs one kernel for
/// sequences with one new token and one for those with many. In f32, and for head sizes that the tensor-core kernels
/// don't have, a plain kernel serves both.
/// </summary>
internal sealed class CudaPagedAttention : IAttention, IDisposable
{
    private const int Tile = 16;
    private const int Warps = 4;
    private const int PrefillRows = 64;
    private const int LeastTilesPerWarp = 4;

    private readonly CudaDevice gpu;
    private readonly ModelConfig config;
    private readonly KvLayout layout;
    private readonly DeviceMemory cache;
    private readonly DeviceMemory parts;
    private readonly DeviceMemory sums;
    private readonly DeviceMemory arrived;
    private readonly DeviceMemory starts;
    private readonly Kernel rotary;
    private readonly Kernel prepare;
    private readonly Kernel? decode;
    private readonly Kernel? prefill;
    private readonly Kernel? plain;
    private readonly int decodeShared;
    private readonly int prefillShared;
    private readonly int decodeBlocks;
    private readonly float scale;

    /// <param name="cache">
    /// Keys and values, cut up as <paramref name="layout"/> says; a block is [kvHeads, blockSize, headDimension].
    /// </param>
    public CudaPagedAttention(CudaDevice gpu, KvLayout layout, DeviceMemory cache, int maxSequences)
    {
        this.gpu = gpu;
        this.layout = layout;
        this.cache = cache;
        config = layout.Config;
        var type = layout.Type;
        int dimension = config.HeadDimension;
        scale = (float)(1 / Math.Sqrt(dimension));

        // Kernels.
        string[] blocks = [$"KV_HEADS={config.KeyValueHeads}", $"BLOCK={layout.BlockSize}"];
        string[] heads = [$"HEADS={config.Heads}", $"GROUP={config.GroupSize}", $"HEAD_DIM={dimension}"];
        string[] shape = [ElementType.Of(type).Definition(), .. heads, .. blocks];
        rotary = gpu.Kernels.Get("RotaryCache", "rotary_cache", shape);
        prepare = gpu.Kernels.Get("StepInputs", "prepare_step", blocks);
        if (HasTensorCores(config, type))
        {
            int stages = dimension <= 64 ? 4 : 2; // measured: about 100 KB a multiprocessor in flight either way
            decode = gpu.Kernels.Get("PagedDecode", "paged_decode", [.. shape, $"STAGES={stages}"]);
            prefill = gpu.Kernels.Get("PagedPrefill", "paged_prefill", shape);
            decodeShared = Warps * stages * (2 * Tile + config.GroupSize) * dimension * type.ElementSize();
            prefillShared = 4 * PrefillRows * dimension * type.ElementSize();
            decodeBlocks = gpu.Multiprocessors * decode.BlocksPerMultiprocessor(32 * Warps, decodeShared);
        }
        else
            plain = gpu.Kernels.Get("PlainAttention", "plain_attention", shape);

        // Memory of paged_decode's warps.
        const string purpose = "attention's partial results";
        int warps = Math.Max(1, WarpCount);
        parts = gpu.Allocate(2L * warps * config.GroupSize * dimension * sizeof(float), purpose);
        sums = gpu.Allocate(2L * warps * config.GroupSize * 2 * sizeof(float), purpose);
        arrived = gpu.AllocateZeros((long)maxSequences * config.KeyValueHeads * sizeof(int), "attention's counters");
        starts = gpu.Allocate(warps * 32L, "attention's plan");
    }

    /// <summary>The step that is computed next.</summary>
    public CudaAttentionStep Current { get; set; }

    /// <summary>Tokens of an item of paged_prefill; 0 if the plain kernel serves all.</summary>
    public int TokensPerItem => prefill is null ? 0 : PrefillRows / config.GroupSize;

    private int WarpCount => decodeBlocks * Warps;

    /// <summary>
    /// Launches prepare_step: ids and positions of the tokens, and where each of paged_decode's warps starts.
    /// </summary>
    /// <param name="tokenPositions">[count]: the position of each token, in the order of <c>Current.Slots</c>.</param>
    /// <param name="tokens">The tokens of all slots.</param>
    /// <param name="ids">[count] int64, written.</param>
    /// <param name="positions">[count] int64, written.</param>
    public void Prepare(nint tokenPositions, int count, DeviceTable tokens, nint ids, nint positions)
    {
        var s = Current;
        int threads = Math.Max(count, WarpCount);
        prepare.Launch(
            ((threads + 255) / 256, 1),
            256,
            0,
            s.Slots,
            tokenPositions,
            count,
            tokens.Address,
            tokens.Stride,
            ids,
            positions,
            s.Plan,
            s.TilesBefore,
            s.DecodeSlots,
            s.DecodePositions,
            s.BlockTables.Address,
            s.BlockTables.Stride,
            starts
        );
    }

    /// <summary>Cuts the rows that decode into equal pieces for paged_decode's warps.</summary>
    /// <param name="positions">Position of each row's token.</param>
    /// <param name="plan">{rows, warps, tiles a warp, -}, written.</param>
    /// <param name="tilesBefore">[rows + 1], written.</param>
    public void PlanDecode(ReadOnlySpan<int> positions, Span<int> plan, Span<int> tilesBefore)
    {
        int tiles = 0;
        tilesBefore[0] = 0;
        for (int i = 0; i < positions.Length; i++)
        {
            tiles += positions[i] / Tile + 1;
            tilesBefore[i + 1] = tiles;
        }

        long units = (long)tiles * config.KeyValueHeads;
        int perWarp = (int)Math.Max(LeastTilesPerWarp, (units + WarpCount - 1) / Math.Max(1, WarpCount));
        plan[0] = positions.Length;
        plan[1] = (int)((units + perWarp - 1) / perWarp);
        plan[2] = perWarp;
        plan[3] = 0;
    }

    public Tensor Attend(Tape? tape, int layer, Tensor qkv, QueryKeyRotation rotation)
    {
        if (tape is not null)
            throw new NotSupportedException(
                "attention over the paged cache has no gradient; train with PackedAttention"
            );
        int tokens = (int)qkv.shape[0];
        Require.On(gpu, qkv, [-1, config.QkvSize], qkv.dtype);

        Rotate(layer, qkv, rotation);
        var output = ResultMemory.CurrentOf(gpu).Take([tokens, config.QuerySize], qkv.dtype); // [tokens, heads · d]
        if (plain is not null)
            LaunchPlain(layer, qkv, output, rotation.Positions);
        if (plain is null && Current.Decodes)
            LaunchDecode(layer, qkv, output);
        if (plain is null && Current.ItemCount > 0)
            LaunchPrefill(layer, qkv, output);
        return output;
    }

    /// <summary>
    /// Launches rotary_cache: normalises and rotates q and k, and writes keys and values into the cache.
    /// </summary>
    private void Rotate(int layer, Tensor qkv, QueryKeyRotation rotation)
    {
        var s = Current;
        rotary.Launch(
            ((int)qkv.shape[0], 1),
            32 * Math.Min(16, config.Heads + 2 * config.KeyValueHeads),
            0,
            qkv,
            rotation.QueryNorm,
            rotation.KeyNorm,
            (float)config.RmsNormEpsilon,
            rotation.Cosine,
            rotation.Sine,
            rotation.Positions,
            s.Slots,
            s.BlockTables.Address,
            s.BlockTables.Stride,
            Keys(layer),
            Values(layer)
        );
    }

    private void LaunchPlain(int layer, Tensor qkv, Tensor output, Tensor positions)
    {
        var s = Current;
        plain!.Launch(
            ((int)qkv.shape[0], config.Heads),
            32,
            0,
            qkv,
            output,
            Keys(layer),
            Values(layer),
            s.BlockTables.Address,
            s.BlockTables.Stride,
            s.Slots,
            positions,
            scale
        );
    }

    private void LaunchPrefill(int layer, Tensor qkv, Tensor output)
    {
        var s = Current;
        prefill!.Launch(
            (s.ItemCount, config.KeyValueHeads),
            32 * Warps,
            prefillShared,
            qkv,
            output,
            Keys(layer),
            Values(layer),
            s.BlockTables.Address,
            s.BlockTables.Stride,
            s.Items,
            scale
        );
    }

    /// <summary>
    /// Launches paged_decode alone: rotated qkv [rows, …] and the layer's cache → output [rows, heads · d].
    /// </summary>
    internal void LaunchDecode(int layer, Tensor qkv, Tensor output)
    {
        if (decode is null)
            throw new NotSupportedException("these sizes have no tensor-core kernel");

        var s = Current;
        decode.Launch(
            (decodeBlocks, 1),
            32 * Warps,
            decodeShared,
            qkv,
            output,
            Keys(layer),
            Values(layer),
            s.BlockTables.Address,
            s.BlockTables.Stride,
            s.DecodeSlots,
            s.DecodePositions,
            s.Plan,
            s.TilesBefore,
            starts,
            parts,
            sums,
            arrived,
            scale,
            s.ItemCount > 0 ? 0 : (int)output.shape[0]
        );
    }

    private nint Keys(int layer) => cache.Pointer + layout.KeysOffset(layer);

    private nint Values(int layer) => cache.Pointer + layout.ValuesOffset(layer);

    /// <summary>
    /// The tensor-core kernels have rows of whole 128 bytes in shared memory, and up to 16 query heads a kv head.
    /// </summary>
    private static bool HasTensorCores(ModelConfig config, ScalarType type) =>
        type != ScalarType.Float32 && config.HeadDimension is 64 or 128 && config.GroupSize <= 16;

    public void Dispose()
    {
        foreach (var memory in new[] { parts, sums, arrived, starts })
            memory.Dispose();
    }
}
