using System.Runtime.InteropServices;
using SimpleR1.Inference.Scheduling;
using SimpleR1.Models;
using SimpleR1.Tensors;
using static TorchSharp.torch;

namespace SimpleR1.Inference.Cpu;

/// <summary>Steps on the CPU, in f32: computed when launched.</summary>
internal sealed unsafe class CpuRunner : IModelRunner
{
    private const long DefaultKvBytes = 1L << 30;

    /// <summary>Logits of more rows than fit in this are made in chunks.</summary>
    private const long LogitBytes = 64L << 20;

    private readonly Decoder decoder;
    private readonly CpuKvCache cache;
    private readonly CpuPagedAttention attention;
    private readonly CpuSampler sampler;
    private readonly int maxTokens;
    private readonly long* inputs; // [2, maxTokens]: ids, positions
    private readonly Sampled[] sampled;
    private int sampledCount;

    public CpuRunner(Decoder decoder, EngineOptions options)
    {
        this.decoder = decoder;
        long bytes = options.KvCacheBytes == 0 ? DefaultKvBytes : options.KvCacheBytes;
        var layout = new KvLayout(decoder.Config, float32, options.BlockSize).Within(bytes);
        Blocks = layout.Blocks;
        if (Blocks == 0)
            throw new ArgumentException(
                $"engine options: KvCacheBytes: {bytes} bytes hold no block of {layout.BytesPerBlock} bytes; give more"
            );

        cache = new(layout);
        attention = new(decoder.Config, cache, options.BlockSize);
        sampler = new(decoder.Config);
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
        var lastRows = new List<long>(batch.Count);
        int tokens = WriteInputs(batch, lastRows);
        using var scope = NewDisposeScope();
        using var gradients = no_grad();
        var hidden = decoder.Hidden(
            Aten.FromPointer((nint)inputs, [tokens], int64),
            Aten.FromPointer((nint)(inputs + maxTokens), [tokens], int64),
            attention
        ); // [tokens, hidden]

        sampledCount = sampling.Count;
        if (sampledCount == 0)
            return;
        if (sampledCount < tokens)
            hidden = hidden.index_select(0, tensor(lastRows.ToArray())); // [rows, hidden]
        Sample(hidden, sampling);
    }

    public ReadOnlySpan<Sampled> Collect() => sampled.AsSpan(0, sampledCount);

    public void Synchronize() { }

    /// <summary>Writes ids and positions of the step's tokens.</summary>
    /// <param name="lastRows">
    /// Filled with the last row of each sequence whose tokens are all computed with this step.
    /// </param>
    /// <returns>Number of tokens.</returns>
    private int WriteInputs(IReadOnlyList<(Sequence Sequence, int Count)> batch, List<long> lastRows)
    {
        long* ids = inputs;
        long* positions = inputs + maxTokens;
        int tokens = 0;
        foreach (var (sequence, count) in batch)
        {
            for (int i = 0; i < count; i++)
            {
                int position = sequence.Computed + i;
                ids[tokens] = sequence.Tokens[position];
                positions[tokens] = position;
                tokens++;
            }

            if (sequence.Computed + count == sequence.Length)
                lastRows.Add(tokens - 1);
        }

        return tokens;
    }

    private void Sample(Tensor hidden, IReadOnlyList<Sequence> sampling)
    {
        int vocabulary = decoder.Config.VocabularySize;
        int chunk = (int)Math.Clamp(LogitBytes / sizeof(float) / vocabulary, 1, sampling.Count);
        for (int first = 0; first < sampling.Count; first += chunk)
        {
            using var scope = NewDisposeScope();
            int rows = Math.Min(chunk, sampling.Count - first);
            var logits = decoder.Logits(hidden.narrow(0, first, rows)); // [rows, vocabulary]
            var results = sampled.AsMemory(first, rows);
            sampler.Sample((float*)Aten.DataPointer(logits), sampling, first, results);
        }
    }

    public void Dispose()
    {
        cache.Dispose();
        NativeMemory.Free(inputs);
    }
}
