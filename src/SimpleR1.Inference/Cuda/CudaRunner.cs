using System.Diagnostics;
using System.Runtime.InteropServices;
using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using static TorchSharp.torch;

namespace SimpleR1.Inference.Cuda;

/// <summary>
/// Steps on a GPU. The host runs one step ahead: it launches a step before it has read what the last one drew, because all that a step needs of the
/// last one, the drawn tokens, is in a table on the device. Steps in which every sequence decodes are recorded as CUDA graphs, one for each size.
/// </summary>
internal sealed class CudaRunner : IModelRunner
{
    private const int Depth = 3; // steps whose pinned memory is kept apart: one runs, one is launched, one is being written
    private const long KeptFree = 384L << 20; // for graphs, and for cuBLAS's kernels, which are loaded when they are first used
    private const int TokenTable = 0,
        BlockTable = 1,
        ParameterTable = 2;

    private readonly CudaDevice gpu;
    private readonly Models.Decoder decoder;
    private readonly EngineOptions options;
    private readonly int tokenStride,
        tableStride;
    private readonly DeviceMemory tokens,
        tables,
        parameters,
        idMemory,
        logitMemory,
        cache;
    private readonly Tensor logits; // [MaxSequences, vocabulary]
    private readonly CudaStepInputs inputs;
    private readonly CudaPagedAttention attention;
    private readonly CudaSampler sampler;
    private readonly Kernel scatter;
    private readonly Dictionary<int, CudaGraph?> graphs = []; // by bucket; null: run once without one, recorded the next time
    private readonly (Sequence? Sequence, int Admission, int Blocks)[] slots; // what the device's tables hold
    private readonly Turn[] turns;
    private readonly Sampled[] sampled;
    private readonly List<(Sequence Sequence, int Count, int Row)> rows = []; // in the order of the batch
    private long launched,
        collected;

    /// <summary>A launched step.</summary>
    private sealed class Turn(CudaDevice gpu)
    {
        public readonly CudaEvent Begin = new(gpu, timed: true),
            End = new(gpu, timed: true);
        public readonly List<Sequence> Sampling = [];
        public readonly List<int> Positions = [];
    }

    public CudaRunner(CudaDevice gpu, Models.Decoder decoder, EngineOptions options)
    {
        var c = decoder.Config;
        var type = decoder.Weights.Flat.dtype;
        (this.gpu, this.decoder, this.options) = (gpu, decoder, options);
        int sequences = options.MaxSequences,
            context = options.ContextOf(c);
        tokenStride = context + 1;
        tableStride = (context + options.BlockSize - 1) / options.BlockSize;
        const string fewer = "lower the most sequences or tokens of a step";
        gpu.Scratch.Reserve(BytesPerLayer(c, type, options.MaxBatchedTokens), fewer);
        tokens = gpu.Allocate(4L * sequences * tokenStride, "the table of tokens", fewer);
        tables = gpu.AllocateZeros(4L * sequences * tableStride, "the block tables");
        parameters = gpu.Allocate(4L * CudaSlotParameters.Length * sequences, "sampling parameters");
        idMemory = gpu.Allocate(16L * options.MaxBatchedTokens, "token ids");
        logitMemory = gpu.Allocate(4L * sequences * c.VocabularySize, $"logits of {sequences} sequences", fewer);
        logits = logitMemory.Tensor([sequences, c.VocabularySize], float32).DetachFromDisposeScope();
        inputs = new(gpu, sequences, Depth);
        sampler = new(gpu, c, sequences, Depth);
        scatter = gpu.Kernels.Get("StepInputs", "scatter", $"KV_HEADS={c.KeyValueHeads}", $"BLOCK={options.BlockSize}");

        long perBlock = CudaPagedAttention.BytesPerBlock(c, type, options.BlockSize);
        Blocks = (int)Math.Min(int.MaxValue / options.BlockSize, KvBytes(perBlock) / perBlock);
        cache = gpu.Allocate(
            Blocks * perBlock,
            "the KV cache",
            "lower --gpu-memory-utilization or give it fewer bytes"
        );
        attention = new(gpu, c, type, cache, Blocks, options.BlockSize, sequences);
        slots = new (Sequence?, int, int)[sequences];
        turns = [.. Enumerable.Range(0, Depth).Select(_ => new Turn(gpu))];
        sampled = new Sampled[sequences];
        Description =
            $"cuda:{gpu.Index} ({gpu.Name}): weights {CudaDevice.Gigabytes(decoder.Weights.ByteLength)} in {TypeName(type)}, activations {CudaDevice.Gigabytes(gpu.Scratch.Bytes)}, "
            + $"logits {CudaDevice.Gigabytes(logitMemory.Bytes)}, KV cache {CudaDevice.Gigabytes(cache.Bytes)} = {Blocks:N0} blocks of {options.BlockSize} tokens, {CudaDevice.Gigabytes(gpu.FreeMemory().Free)} free";
        gpu.Synchronize();
    }

    public int Blocks { get; }
    public int Lookahead => 1;
    public string Description { get; }
    public double GpuSeconds { get; private set; }
    public double WaitSeconds { get; private set; }

    public void Launch(IReadOnlyList<(Sequence Sequence, int Count)> batch, IReadOnlyList<Sequence> sampling)
    {
        int turn = (int)(launched++ % Depth);
        inputs.Begin();
        PlaceRows(batch, out int decoding, out int count);
        for (int i = 0; i < batch.Count; i++)
            UpdateTables(batch[i].Sequence);
        using var scope = NewDisposeScope();
        using var gradients = no_grad();
        gpu.Profile?.HoldBack();
        turns[turn].Begin.Record();
        var changes = sampler.AddEdits(inputs, sampling);
        nint sampledSlots = inputs.SlotsAddress,
            sampledAt = inputs.AtAddress;
        if (decoding == batch.Count && sampling.Count == batch.Count)
            RunDecode(decoding);
        else
            (sampledSlots, sampledAt) = RunMixed(decoding, count, sampling);
        if (sampling.Count > 0)
            sampler.Launch(
                turn,
                logits,
                sampling,
                sampledSlots,
                sampledAt,
                parameters.Pointer,
                tokens.Pointer,
                tokenStride,
                (changes.Rows, inputs.Address(changes.Ranges), inputs.Address(changes.Edits))
            );
        turns[turn].End.Record();
        turns[turn].Sampling.Clear();
        turns[turn].Positions.Clear();
        foreach (var sequence in sampling)
        {
            turns[turn].Sampling.Add(sequence);
            turns[turn].Positions.Add(sequence.Length - sequence.Request.PromptTokens.Length);
        }
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

    /// <summary>Gives each sequence its rows: first those with one new token, then the others, in the order of the batch.</summary>
    private void PlaceRows(IReadOnlyList<(Sequence Sequence, int Count)> batch, out int decoding, out int count)
    {
        rows.Clear();
        decoding = 0;
        foreach (var (_, n) in batch)
            if (n == 1)
                decoding++;
        count = decoding;
        int single = 0;
        foreach (var (sequence, n) in batch)
        {
            rows.Add((sequence, n, n == 1 ? single : count));
            if (n > 1)
            {
                count += n;
                continue;
            }
            (inputs.Slots[single], inputs.At[single]) = (sequence.Slot, sequence.Computed);
            single++;
        }
        attention.PlanDecode(inputs.At[..decoding], inputs.Plan, inputs.TilesBefore);
    }

    /// <summary>Sends what the device does not have yet of a sequence: all of it when it is newly admitted, else blocks that were added.</summary>
    private void UpdateTables(Sequence sequence)
    {
        int slot = sequence.Slot;
        ref var there = ref slots[slot];
        if (there.Sequence != sequence || there.Admission != sequence.Admissions)
        {
            there = (sequence, sequence.Admissions, 0);
            sequence.Tokens.CopyTo(inputs.AddRun(TokenTable, slot * tokenStride, sequence.Known));
            var own = CudaSlotParameters.Of(sequence);
            MemoryMarshal
                .Cast<CudaSlotParameters, int>(new ReadOnlySpan<CudaSlotParameters>(in own))
                .CopyTo(inputs.AddRun(ParameterTable, slot * CudaSlotParameters.Length, CudaSlotParameters.Length));
        }
        int added = sequence.Blocks.Count - there.Blocks;
        if (added == 0)
            return;
        CollectionsMarshal
            .AsSpan(sequence.Blocks)[^added..]
            .CopyTo(inputs.AddRun(BlockTable, slot * tableStride + there.Blocks, added));
        there.Blocks = sequence.Blocks.Count;
    }

    // ---- every sequence decodes

    private void RunDecode(int count)
    {
        int bucket = Math.Min(Bucket(count), options.MaxSequences);
        inputs.Slots[count..bucket].Fill(-1);
        inputs.Send(scatter, tokens.Pointer, tables.Pointer, parameters.Pointer);
        if (!options.CudaGraphs || !graphs.TryGetValue(bucket, out var graph))
        {
            Decode(bucket); // the first time: kernels are compiled and loaded, which a recording can't
            if (options.CudaGraphs)
                graphs[bucket] = null;
            return;
        }
        if (graph is null)
            graphs[bucket] = graph = CudaGraph.Capture(gpu, () => Decode(bucket));
        graph.Launch();
    }

    private void Decode(int count)
    {
        attention.Current = new(
            inputs.SlotsAddress,
            tables.Pointer,
            tableStride,
            inputs.PlanAddress,
            inputs.TilesBeforeAddress,
            inputs.SlotsAddress,
            inputs.AtAddress,
            Decodes: true,
            0,
            0
        );
        var hidden = Forward(inputs.AtAddress, count);
        decoder.LogitsInto(hidden, logits.narrow(0, 0, count));
    }

    /// <summary>Sizes that graphs are recorded for: padding costs a sixteenth at most where it costs anything.</summary>
    private static int Bucket(int count) =>
        count switch
        {
            <= 2 => count,
            <= 4 => 4,
            <= 64 => (count + 7) / 8 * 8,
            <= 256 => (count + 15) / 16 * 16,
            _ => (count + 63) / 64 * 64,
        };

    // ---- some have prompts

    /// <returns>Slots and positions of the rows that are sampled: device addresses.</returns>
    private (nint Slots, nint At) RunMixed(int decoding, int count, IReadOnlyList<Sequence> sampling)
    {
        int perItem = attention.TokensPerItem;
        inputs.Add(count, out int allSlots);
        inputs.Add(count, out int allAt);
        int itemCount = perItem == 0 ? 0 : rows.Sum(r => r.Count == 1 ? 0 : (r.Count + perItem - 1) / perItem);
        inputs.Add(4 * itemCount, out int items);
        inputs.Add(2 * sampling.Count, out int lastRows);
        inputs.Add(sampling.Count, out int lastSlots);
        inputs.Add(sampling.Count, out int lastAt);
        // Only now is the memory where it stays.
        Span<int> slotsTo = inputs.Room(allSlots, count),
            atTo = inputs.Room(allAt, count),
            itemsTo = inputs.Room(items, 4 * itemCount),
            slotsLast = inputs.Room(lastSlots, sampling.Count),
            atLast = inputs.Room(lastAt, sampling.Count);
        var rowsLast = MemoryMarshal.Cast<int, long>(inputs.Room(lastRows, 2 * sampling.Count));
        int item = 0,
            last = 0;
        foreach (var (sequence, n, row) in rows)
        {
            for (int i = 0; i < n; i++)
                (slotsTo[row + i], atTo[row + i]) = (sequence.Slot, sequence.Computed + i);
            for (int i = 0; n > 1 && perItem > 0 && i < n; i += perItem, item++)
                (itemsTo[4 * item], itemsTo[4 * item + 1], itemsTo[4 * item + 2], itemsTo[4 * item + 3]) = (
                    row + i,
                    Math.Min(perItem, n - i),
                    sequence.Computed + i,
                    sequence.Slot
                );
            if (sequence.Computed + n < sequence.Length)
                continue;
            (rowsLast[last], slotsLast[last], atLast[last]) = (row + n - 1, sequence.Slot, sequence.Computed + n - 1);
            last++;
        }
        inputs.Send(scatter, tokens.Pointer, tables.Pointer, parameters.Pointer);
        attention.Current = new(
            inputs.Address(allSlots),
            tables.Pointer,
            tableStride,
            inputs.PlanAddress,
            inputs.TilesBeforeAddress,
            inputs.SlotsAddress,
            inputs.AtAddress,
            decoding > 0,
            inputs.Address(items),
            itemCount
        );
        var hidden = Forward(inputs.Address(allAt), count);
        if (sampling.Count > 0)
        {
            hidden = Ops.SelectRows(null, hidden, gpu.Wrap(inputs.Address(lastRows), [sampling.Count], int64));
            decoder.LogitsInto(hidden, logits.narrow(0, 0, sampling.Count));
        }
        return (inputs.Address(lastSlots), inputs.Address(lastAt));
    }

    /// <returns>[count, hidden]</returns>
    private Tensor Forward(nint atOf, int count)
    {
        gpu.Scratch.Reset();
        nint positions = idMemory.Pointer + 8 * options.MaxBatchedTokens;
        attention.Prepare(atOf, count, tokens.Pointer, tokenStride, idMemory.Pointer, positions);
        return decoder.Hidden(
            gpu.Wrap(idMemory.Pointer, [count], int64),
            gpu.Wrap(positions, [count], int64),
            attention
        );
    }

    // ---- memory

    /// <summary>What a layer's results take in the arena: the residual stream twice in f32, norms, projections, attention and the MLP.</summary>
    private static long BytesPerLayer(ModelConfig c, ScalarType type, int tokens)
    {
        long elements = (c.QuerySize + 2 * c.KeyValueSize) + c.QuerySize + 4L * c.HiddenSize + 3L * c.IntermediateSize;
        return tokens * (elements * type.ElementSize() + 2L * c.HiddenSize * sizeof(float)) + 16 * 256;
    }

    private long KvBytes(long perBlock)
    {
        if (options.KvCacheBytes > 0)
            return Math.Max(perBlock, options.KvCacheBytes);
        var (free, total) = gpu.FreeMemory();
        long bytes = (long)(total * options.GpuMemoryUtilization) - (total - free) - KeptFree;
        if (bytes < perBlock)
            throw new CudaOutOfMemoryException(
                $"no memory is left for the KV cache: {CudaDevice.Gigabytes(total - free)} of {CudaDevice.Gigabytes(total)} on cuda:{gpu.Index} ({gpu.Name}) are in use, "
                    + $"and --gpu-memory-utilization {options.GpuMemoryUtilization} allows {CudaDevice.Gigabytes((long)(total * options.GpuMemoryUtilization))}; raise it, free memory that other processes hold, or lower the most sequences or tokens of a step"
            );
        return bytes;
    }

    private static string TypeName(ScalarType type) =>
        type switch
        {
            ScalarType.BFloat16 => "bf16",
            ScalarType.Float16 => "f16",
            _ => "f32",
        };

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
        inputs.Dispose();
        foreach (var memory in new[] { tokens, tables, parameters, idMemory, logitMemory, cache })
            memory.Dispose();
    }
}
