using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using static TorchSharp.torch;

namespace SimpleR1.Inference.Cuda;

/// <summary>
/// Attention over the paged cache on a GPU: rotates and stores the step's keys and values, then one kernel for sequences with one new token and one
/// for those with many. In f32, and for head sizes that the tensor-core kernels don't have, a plain kernel serves both.
/// </summary>
internal sealed class CudaPagedAttention : IAttention, IDisposable
{
    private const int Tile = 16,
        Warps = 4,
        PrefillRows = 64,
        LeastTilesPerWarp = 4;

    private readonly CudaDevice gpu;
    private readonly ModelConfig config;
    private readonly DeviceMemory cache,
        parts,
        sums,
        arrived,
        starts;
    private readonly long layerBytes; // of keys, and of values
    private readonly Kernel rotary,
        prepare;
    private readonly Kernel? decode,
        prefill,
        plain;
    private readonly int decodeShared,
        prefillShared,
        decodeBlocks;
    private readonly float scale;

    /// <param name="cache">Keys and values of all layers: [layers, 2, blocks, kvHeads, blockSize, headDimension].</param>
    public CudaPagedAttention(
        CudaDevice gpu,
        ModelConfig config,
        ScalarType type,
        DeviceMemory cache,
        int blocks,
        int blockSize,
        int maxSequences
    )
    {
        (this.gpu, this.config, this.cache) = (gpu, config, cache);
        layerBytes = (long)blocks * config.KeyValueSize * blockSize * type.ElementSize();
        scale = (float)(1 / Math.Sqrt(config.HeadDimension));
        int stages = config.HeadDimension <= 64 ? 4 : 2; // measured: about 100 KB a multiprocessor on its way either way
        string[] shape =
        [
            CudaOps.Element(type),
            $"HEADS={config.Heads}",
            $"KV_HEADS={config.KeyValueHeads}",
            $"GROUP={config.GroupSize}",
            $"HEAD_DIM={config.HeadDimension}",
            $"BLOCK={blockSize}",
        ];
        rotary = gpu.Kernels.Get("RotaryCache", "rotary_cache", shape);
        prepare = gpu.Kernels.Get(
            "StepInputs",
            "prepare_step",
            $"KV_HEADS={config.KeyValueHeads}",
            $"BLOCK={blockSize}"
        );
        if (HasTensorCores(config, type))
        {
            decode = gpu.Kernels.Get("PagedDecode", "paged_decode", [.. shape, $"STAGES={stages}"]);
            prefill = gpu.Kernels.Get("PagedPrefill", "paged_prefill", shape);
            decodeShared = Warps * stages * (2 * Tile + config.GroupSize) * config.HeadDimension * type.ElementSize();
            prefillShared = 4 * PrefillRows * config.HeadDimension * type.ElementSize();
            decodeBlocks = gpu.Multiprocessors * decode.BlocksPerMultiprocessor(32 * Warps, decodeShared);
        }
        else
            plain = gpu.Kernels.Get("PlainAttention", "plain_attention", shape);
        int warps = Math.Max(1, decodeBlocks * Warps);
        parts = gpu.Allocate(
            2L * warps * config.GroupSize * config.HeadDimension * sizeof(float),
            "attention's partial results"
        );
        sums = gpu.Allocate(2L * warps * config.GroupSize * 2 * sizeof(float), "attention's partial results");
        arrived = gpu.AllocateZeros((long)maxSequences * config.KeyValueHeads * sizeof(int), "attention's counters");
        starts = gpu.Allocate(warps * 32L, "attention's plan");
    }

    /// <summary>The step that is computed next.</summary>
    /// <param name="Slots">[tokens] of all tokens; −1 is padding.</param>
    /// <param name="Plan">Of paged_decode, with <paramref name="TilesBefore"/>, <paramref name="DecodeSlots"/> and <paramref name="DecodeAt"/>: the first rows, one token each.</param>
    /// <param name="Items">Of paged_prefill: {first row, tokens, position of the first, slot}.</param>
    public readonly record struct Step(
        nint Slots,
        nint Tables,
        int TableStride,
        nint Plan,
        nint TilesBefore,
        nint DecodeSlots,
        nint DecodeAt,
        bool Decodes,
        nint Items,
        int ItemCount
    );

    public Step Current { get; set; }

    /// <summary>Tokens of an item of paged_prefill; 0 where the plain kernel serves all.</summary>
    public int TokensPerItem => prefill is null ? 0 : PrefillRows / config.GroupSize;

    public static long BytesPerBlock(ModelConfig config, ScalarType type, int blockSize) =>
        2L * config.Layers * config.KeyValueSize * blockSize * type.ElementSize();

    /// <summary>Launches prepare_step: ids and positions of the tokens, and where each of paged_decode's warps starts.</summary>
    /// <param name="at">Position of each token, like <c>Current.Slots</c> on the device.</param>
    public void Prepare(nint at, int count, nint tokens, int tokenStride, nint ids, nint positions)
    {
        var s = Current;
        int threads = Math.Max(count, WarpCount);
        prepare.Launch(
            ((threads + 255) / 256, 1),
            256,
            0,
            s.Slots,
            at,
            count,
            tokens,
            tokenStride,
            ids,
            positions,
            s.Plan,
            s.TilesBefore,
            s.DecodeSlots,
            s.DecodeAt,
            s.Tables,
            s.TableStride,
            starts
        );
    }

    private int WarpCount => decodeBlocks * Warps;

    /// <summary>Cuts the rows that decode into equal pieces for paged_decode's warps.</summary>
    /// <param name="at">Position of each row's token.</param>
    public void PlanDecode(ReadOnlySpan<int> at, Span<int> plan, Span<int> tilesBefore)
    {
        int tiles = 0;
        tilesBefore[0] = 0;
        for (int i = 0; i < at.Length; i++)
            tilesBefore[i + 1] = tiles += at[i] / Tile + 1;
        long units = (long)tiles * config.KeyValueHeads;
        int perWarp = (int)Math.Max(LeastTilesPerWarp, (units + WarpCount - 1) / Math.Max(1, WarpCount));
        (plan[0], plan[1], plan[2], plan[3]) = (at.Length, (int)((units + perWarp - 1) / perWarp), perWarp, 0);
    }

    public Tensor Attend(Tape? tape, int layer, Tensor qkv, QueryKeyRotation r)
    {
        if (tape is not null)
            throw new NotSupportedException(
                "attention over the paged cache has no gradient; train with PackedAttention"
            );
        var c = config;
        int tokens = (int)qkv.shape[0];
        Require.On(gpu, qkv, [-1, c.QuerySize + 2 * c.KeyValueSize], qkv.dtype);
        nint keys = cache.Pointer + (nint)(2 * layer * layerBytes),
            values = keys + (nint)layerBytes;
        var s = Current;
        rotary.Launch(
            (tokens, 1),
            32 * Math.Min(16, c.Heads + 2 * c.KeyValueHeads),
            0,
            qkv,
            r.QueryNorm,
            r.KeyNorm,
            (float)c.RmsNormEpsilon,
            r.Cosine,
            r.Sine,
            r.Positions,
            s.Slots,
            s.Tables,
            s.TableStride,
            keys,
            values
        );
        var output = gpu.Scratch.Take([tokens, c.QuerySize], qkv.dtype); // [tokens, heads · d]
        if (plain is not null)
        {
            plain.Launch(
                (tokens, c.Heads),
                32,
                0,
                qkv,
                output,
                keys,
                values,
                s.Tables,
                s.TableStride,
                s.Slots,
                r.Positions,
                scale
            );
            return output;
        }
        if (s.Decodes)
            LaunchDecode(layer, qkv, output);
        if (s.ItemCount > 0)
            prefill!.Launch(
                (s.ItemCount, c.KeyValueHeads),
                32 * Warps,
                prefillShared,
                qkv,
                output,
                keys,
                values,
                s.Tables,
                s.TableStride,
                s.Items,
                scale
            );
        return output;
    }

    /// <summary>paged_decode alone: qkv [rows, …], rotated, and the cache's layer → output [rows, heads · d].</summary>
    internal void LaunchDecode(int layer, Tensor qkv, Tensor output)
    {
        var s = Current;
        nint keys = cache.Pointer + (nint)(2 * layer * layerBytes),
            values = keys + (nint)layerBytes;
        (decode ?? throw new NotSupportedException("these sizes have no tensor-core kernel")).Launch(
            (decodeBlocks, 1),
            32 * Warps,
            decodeShared,
            qkv,
            output,
            keys,
            values,
            s.Tables,
            s.TableStride,
            s.DecodeSlots,
            s.DecodeAt,
            s.Plan,
            s.TilesBefore,
            starts,
            parts,
            sums,
            arrived,
            scale
        );
    }

    /// <summary>The tensor-core kernels have rows of whole 128 bytes in shared memory, and up to 16 query heads a kv head.</summary>
    private static bool HasTensorCores(ModelConfig config, ScalarType type) =>
        type != ScalarType.Float32 && config.HeadDimension is 64 or 128 && config.GroupSize <= 16;

    public void Dispose()
    {
        foreach (var memory in new[] { parts, sums, arrived, starts })
            memory.Dispose();
    }
}
