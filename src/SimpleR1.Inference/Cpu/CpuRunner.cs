using System.Runtime.InteropServices;
using SimpleR1.Tensors;
using static TorchSharp.torch;

namespace SimpleR1.Inference.Cpu;

/// <summary>Steps on the CPU, in f32: computed when launched.</summary>
internal sealed unsafe class CpuRunner : IModelRunner
{
    private const long DefaultKvBytes = 1L << 30;

    /// <summary>Logits of more rows than fit in this are made part by part.</summary>
    private const long LogitBytes = 64L << 20;

    private readonly Models.Decoder decoder;
    private readonly CpuKvCache cache;
    private readonly CpuPagedAttention attention;
    private readonly int maxTokens;
    private readonly long* inputs; // [2, maxTokens]: ids, positions
    private readonly Sampled[] sampled;
    private int count;

    public CpuRunner(Models.Decoder decoder, EngineOptions options)
    {
        this.decoder = decoder;
        long bytes = options.KvCacheBytes == 0 ? DefaultKvBytes : options.KvCacheBytes,
            perBlock = CpuKvCache.BytesPerBlock(decoder.Config, options.BlockSize);
        Blocks = (int)Math.Min(int.MaxValue / options.BlockSize, bytes / perBlock);
        if (Blocks == 0)
            throw new ArgumentException(
                $"engine options: KvCacheBytes: {bytes} bytes hold no block of {perBlock} bytes; give more"
            );
        cache = new(decoder.Config, Blocks, options.BlockSize);
        attention = new(decoder.Config, cache, options.BlockSize);
        maxTokens = options.MaxBatchedTokens;
        inputs = (long*)NativeMemory.Alloc((nuint)maxTokens, 2 * sizeof(long));
        sampled = new Sampled[options.MaxSequences];
    }

    public int Blocks { get; }
    public int Lookahead => 0;
    public string? Description => null;
    public double GpuSeconds => 0;
    public double WaitSeconds => 0;

    public void Launch(IReadOnlyList<(Sequence Sequence, int Count)> batch, IReadOnlyList<Sequence> sampling)
    {
        attention.Prepare(batch);
        long* ids = inputs,
            positions = inputs + maxTokens;
        int tokens = 0;
        var lastRows = new List<long>(batch.Count);
        foreach (var (sequence, count) in batch)
        {
            for (int i = 0; i < count; i++, tokens++)
                (ids[tokens], positions[tokens]) = (sequence.Tokens[sequence.Computed + i], sequence.Computed + i);
            if (sequence.Computed + count == sequence.Length)
                lastRows.Add(tokens - 1);
        }
        using var scope = NewDisposeScope();
        using var gradients = no_grad();
        var hidden = decoder.Hidden(
            Aten.FromPointer((nint)ids, [tokens], int64),
            Aten.FromPointer((nint)positions, [tokens], int64),
            attention
        ); // [tokens, hidden]
        count = sampling.Count;
        if (count == 0)
            return;
        if (count < tokens)
            hidden = hidden.index_select(0, tensor(lastRows.ToArray())); // [rows, hidden]
        Sample(hidden, sampling);
    }

    public ReadOnlySpan<Sampled> Collect() => sampled.AsSpan(0, count);

    public void Synchronize() { }

    private void Sample(Tensor hidden, IReadOnlyList<Sequence> sampling)
    {
        int vocabulary = decoder.Config.VocabularySize,
            chunk = (int)Math.Clamp(LogitBytes / sizeof(float) / vocabulary, 1, sampling.Count);
        for (int from = 0; from < sampling.Count; from += chunk)
        {
            using var scope = NewDisposeScope();
            int rows = Math.Min(chunk, sampling.Count - from);
            var logits = decoder.Logits(hidden.narrow(0, from, rows)); // [rows, vocabulary]
            CpuSampler.Sample(
                (float*)Aten.DataPointer(logits),
                vocabulary,
                decoder.Config,
                sampling,
                from,
                rows,
                sampled
            );
        }
    }

    public void Dispose()
    {
        cache.Dispose();
        NativeMemory.Free(inputs);
    }
}
