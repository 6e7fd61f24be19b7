using System.Diagnostics;
using SimpleR1.Inference.Scheduling;
using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using static TorchSharp.torch;

namespace SimpleR1.Inference.Cuda;

/// <summary>
/// Steps on a GPU. The host runs one step ahead: it launches a step before it has read what the last one drew, because
/// all that a step needs of the last one, the drawn tokens, is in a table on the device. Steps in which every sequence
/// decodes are recorded as CUDA graphs, one for each size.
/// </summary>
internal sealed class CudaRunner : IModelRunner
{
    /// <summary>Steps whose pinned memory is kept apart: one runs, one is launched, one is being written.</summary>
    private const int Depth = 3;

    /// <summary>Bytes for graphs, and for cuBLAS's kernels, which are loaded when they are first used.</summary>
    private const long KeptFree = 384L << 20;

    private readonly CudaDevice gpu;
    private readonly Decoder decoder;
    private readonly EngineOptions options;
    private readonly Arena arena; // the forward pass's results
    private readonly DeviceMemory idMemory; // [2, MaxBatchedTokens] int64: ids, positions
    private readonly DeviceMemory logitMemory;
    private readonly DeviceMemory cache;
    private readonly Tensor logits; // [MaxSequences, vocabulary]
    private readonly CudaStepInputs inputs;
    private readonly CudaTables tables;
    private readonly CudaPagedAttention attention;
    private readonly CudaSampler sampler;
    private readonly CudaMixedStep mixed;
    private readonly Dictionary<int, CudaGraph?> graphs = []; // by bucket; null: ran once, recorded the next time
    private readonly Turn[] turns;
    private readonly Sampled[] sampled;
    private readonly List<SequenceRows> rows = []; // in the order of the batch
    private long launched;
    private long collected;

    /// <summary>A launched step.</summary>
    private sealed class Turn(CudaDevice gpu)
    {
        public readonly CudaEvent Begin = new(gpu, timed: true);
        public readonly CudaEvent End = new(gpu, timed: true);
        public readonly List<Sequence> Sampling = [];
        public readonly List<int> Positions = [];

        public void Remember(IReadOnlyList<Sequence> sampling)
        {
            Sampling.Clear();
            Positions.Clear();
            foreach (var sequence in sampling)
            {
                Sampling.Add(sequence);
                Positions.Add(sequence.Length - sequence.Request.PromptTokens.Length);
            }
        }
    }

    /// <param name="cacheMemory">For keys and values, and not freed here; null allocates what is free.</param>
    public CudaRunner(CudaDevice gpu, Decoder decoder, EngineOptions options, DeviceMemory? cacheMemory = null)
    {
        this.gpu = gpu;
        this.decoder = decoder;
        this.options = options;
        var config = decoder.Config;
        int sequences = options.MaxSequences;

        // What depends on the sizes of a step.
        const string advice = "lower the most sequences or tokens of a step";
        arena = new(gpu);
        long elementBytes = decoder.Weights.Flat.element_size();
        arena.Reserve(Decoder.ActivationBytes(config, elementBytes, options.MaxBatchedTokens), advice);
        inputs = new(gpu, sequences, Depth);
        tables = new(gpu, config, options, inputs, advice);
        idMemory = gpu.Allocate(16L * options.MaxBatchedTokens, "token ids");
        logitMemory = gpu.Allocate(4L * sequences * config.VocabularySize, $"logits of {sequences} sequences", advice);
        logits = logitMemory.Tensor([sequences, config.VocabularySize], float32).DetachFromDisposeScope();
        sampler = new(gpu, config, inputs, sequences, Depth);

        // The KV cache takes what is left, or the memory that it is given.
        var layout = new KvLayout(config, decoder.Weights.Flat.dtype, options.BlockSize);
        layout = layout.Within(KvBytes(layout.BytesPerBlock, cacheMemory?.Bytes));
        Blocks = layout.Blocks;
        cache =
            cacheMemory?.Part(0, layout.Bytes)
            ?? gpu.Allocate(layout.Bytes, "the KV cache", "lower --gpu-memory-utilization or give it fewer bytes");
        attention = new(gpu, layout, cache, sequences);
        mixed = new(inputs, attention.TokensPerItem);

        turns = [.. Enumerable.Range(0, Depth).Select(_ => new Turn(gpu))];
        sampled = new Sampled[sequences];
        Description = Describe();
        gpu.Synchronize();
    }

    public int Blocks { get; }
    public int Lookahead => 1;
    public string Description { get; }
    public double GpuSeconds { get; private set; }
    public double WaitSeconds { get; private set; }

    public void Launch(IReadOnlyList<(Sequence Sequence, int Count)> batch, IReadOnlyList<Sequence> sampling)
    {
        // What the device does not know yet.
        int number = (int)(launched++ % Depth);
        var turn = turns[number];
        inputs.Begin();
        PlaceRows(batch, out int decoding, out int count);
        for (int i = 0; i < batch.Count; i++)
            tables.Update(batch[i].Sequence);

        // The forward pass.
        using var scope = NewDisposeScope();
        using var gradients = no_grad();
        using var results = arena.Enter();
        gpu.Profile?.HoldBack();
        turn.Begin.Record();
        var edits = sampler.AddEdits(sampling);
        var top = sampler.AddTopRows(number, sampling);
        bool allDecode = decoding == batch.Count && sampling.Count == batch.Count;
        if (allDecode)
            RunDecode(decoding);
        else
            RunMixed(decoding, count, sampling.Count);

        // The draw.
        var sampledRows = new CudaSampledRows
        {
            Sequences = sampling,
            Slots = allDecode ? inputs.SlotsAddress : mixed.LastSlots,
            Positions = allDecode ? inputs.PositionsAddress : mixed.LastPositions,
            Edits = edits,
            Top = top,
        };
        if (sampling.Count > 0)
            sampler.Launch(number, logits, sampledRows, tables);
        turn.End.Record();
        turn.Remember(sampling);
    }

    public ReadOnlySpan<Sampled> Collect()
    {
        int number = (int)(collected++ % Depth);
        var turn = turns[number];
        long start = Stopwatch.GetTimestamp();
        turn.End.Wait();
        WaitSeconds += Stopwatch.GetElapsedTime(start).TotalSeconds;
        GpuSeconds += turn.End.MillisecondsSince(turn.Begin) / 1000;
        sampler.Collect(number, turn.Sampling, turn.Positions, sampled);
        return sampled.AsSpan(0, turn.Sampling.Count);
    }

    public void Synchronize() => gpu.Synchronize();

    /// <summary>
    /// Gives each sequence its rows: first those that decode, then the others, in the order of the batch. The one token
    /// that a prompt may have left is prefilled: another sequence may write the keys before it in this same step, and
    /// paged_decode does not wait for those.
    /// </summary>
    /// <param name="decoding">Number of sequences that decode.</param>
    /// <param name="count">Number of rows.</param>
    private void PlaceRows(IReadOnlyList<(Sequence Sequence, int Count)> batch, out int decoding, out int count)
    {
        rows.Clear();
        decoding = 0;
        foreach (var (sequence, _) in batch)
            if (sequence.Decoding)
                decoding++;

        count = decoding;
        int single = 0;
        foreach (var (sequence, tokens) in batch)
        {
            if (!sequence.Decoding)
            {
                rows.Add(new(sequence, tokens, count));
                count += tokens;
                continue;
            }

            rows.Add(new(sequence, tokens, single));
            inputs.Slots[single] = sequence.Slot;
            inputs.Positions[single] = sequence.Computed;
            single++;
        }

        attention.PlanDecode(inputs.Positions[..decoding], inputs.Plan, inputs.TilesBefore);
    }

    /// <summary>Runs a step in which every sequence decodes, by a graph if there is one.</summary>
    private void RunDecode(int count)
    {
        int bucket = Math.Min(Bucket(count), options.MaxSequences);
        inputs.Slots[count..bucket].Fill(-1);
        tables.Send();
        if (!options.CudaGraphs || !graphs.TryGetValue(bucket, out var graph))
        {
            Decode(bucket); // the first time: kernels are compiled and loaded, which a recording can't do
            if (options.CudaGraphs)
                graphs[bucket] = null;
            return;
        }

        if (graph is null)
        {
            graph = CudaGraph.Capture(gpu, () => Decode(bucket));
            graphs[bucket] = graph;
        }

        graph.Launch();
    }

    private void Decode(int count)
    {
        attention.Current = new()
        {
            Slots = inputs.SlotsAddress,
            BlockTables = tables.Blocks,
            Plan = inputs.PlanAddress,
            TilesBefore = inputs.TilesBeforeAddress,
            DecodeSlots = inputs.SlotsAddress,
            DecodePositions = inputs.PositionsAddress,
            Decodes = true,
        };
        var hidden = Forward(inputs.PositionsAddress, count); // [count, hidden]
        decoder.LogitsInto(hidden, logits.narrow(0, 0, count));
    }

    /// <summary>
    /// Sizes that graphs are recorded for. Padding costs at most a sixteenth in sizes where it costs anything.
    /// </summary>
    private static int Bucket(int count) =>
        count switch
        {
            <= 2 => count,
            <= 4 => 4,
            <= 64 => (count + 7) / 8 * 8,
            <= 256 => (count + 15) / 16 * 16,
            _ => (count + 63) / 64 * 64,
        };

    /// <summary>Runs a step in which some sequences compute several tokens, or draw none.</summary>
    private void RunMixed(int decoding, int count, int sampling)
    {
        mixed.Reserve(rows, count, sampling);
        mixed.Fill(rows);
        tables.Send();

        attention.Current = new()
        {
            Slots = mixed.Slots,
            BlockTables = tables.Blocks,
            Plan = inputs.PlanAddress,
            TilesBefore = inputs.TilesBeforeAddress,
            DecodeSlots = inputs.SlotsAddress,
            DecodePositions = inputs.PositionsAddress,
            Decodes = decoding > 0,
            Items = mixed.Items,
            ItemCount = mixed.ItemCount,
        };
        var hidden = Forward(mixed.Positions, count); // [count, hidden]
        if (sampling == 0)
            return;
        hidden = Ops.SelectRows(null, hidden, gpu.Wrap(mixed.LastRows, [sampling], int64)); // [sampling, hidden]
        decoder.LogitsInto(hidden, logits.narrow(0, 0, sampling));
    }

    /// <param name="tokenPositions">[count]: device address of the position of each token.</param>
    /// <returns>[count, hidden]</returns>
    private Tensor Forward(nint tokenPositions, int count)
    {
        arena.Reset();
        nint ids = idMemory.Pointer;
        nint positions = ids + 8 * options.MaxBatchedTokens;
        attention.Prepare(tokenPositions, count, tables.Tokens, ids, positions);
        return decoder.Hidden(gpu.Wrap(ids, [count], int64), gpu.Wrap(positions, [count], int64), attention);
    }

    /// <param name="given">Bytes of memory that the engine was given; null for none.</param>
    private long KvBytes(long perBlock, long? given)
    {
        if (given < perBlock)
            throw new CudaOutOfMemoryException(
                $"the memory that was given for the KV cache has {given:N0} bytes, and one block takes {perBlock:N0}"
            );
        if (options.KvCacheBytes > 0)
            return Math.Min(given ?? long.MaxValue, Math.Max(perBlock, options.KvCacheBytes));
        if (given is { } whole)
            return whole;

        var (free, total) = gpu.FreeMemory();
        long used = total - free;
        long allowed = (long)(total * options.GpuMemoryUtilization);
        long bytes = allowed - used - KeptFree;
        if (bytes < perBlock)
            throw new CudaOutOfMemoryException(
                $"no memory is left for the KV cache: {CudaDevice.Gigabytes(used)} of {CudaDevice.Gigabytes(total)} "
                    + $"on cuda:{gpu.Index} ({gpu.Name}) are in use, and --gpu-memory-utilization "
                    + $"{options.GpuMemoryUtilization} allows {CudaDevice.Gigabytes(allowed)}; raise it, "
                    + "free memory that other processes hold, or lower the most sequences or tokens of a step"
            );
        return bytes;
    }

    private string Describe()
    {
        string weights =
            $"{CudaDevice.Gigabytes(decoder.Weights.ByteLength)} in {ElementType.Of(decoder.Weights.Flat.dtype).Name}";
        return $"cuda:{gpu.Index} ({gpu.Name}): weights {weights}, "
            + $"activations {CudaDevice.Gigabytes(arena.Bytes)}, "
            + $"logits {CudaDevice.Gigabytes(logitMemory.Bytes)}, "
            + $"KV cache {CudaDevice.Gigabytes(cache.Bytes)} = {Blocks:N0} blocks of {options.BlockSize} tokens, "
            + $"{CudaDevice.Gigabytes(gpu.FreeMemory().Free)} free";
    }

    public void Dispose()
    {
        gpu.Synchronize();
        foreach (var graph in graphs.Values)
            graph?.Dispose();
        foreach (var turn in turns)
        {
            turn.Begin.Dispose();
            turn.End.Dispose();
        }

        logits.Dispose();
        attention.Dispose();
        sampler.Dispose();
        tables.Dispose();
        inputs.Dispose();
        arena.Dispose();
        foreach (var memory in new[] { idMemory, logitMemory, cache })
            memory.Dispose();
    }
}
