using System.Runtime.InteropServices;
using SimpleR1.Inference.Scheduling;
using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using static TorchSharp.torch;

namespace SimpleR1.Inference.Cuda;

/// <summary>Where in a step's inputs the host's edits of logits are.</summary>
/// <param name="Rows">Rows with edits.</param>
/// <param name="RangesOffset">[rows] of {first edit, end}: offset into the inputs.</param>
/// <param name="EditsOffset">{row, token, value, -}: offset into the inputs.</param>
internal readonly record struct LogitEdits(int Rows, int RangesOffset, int EditsOffset);

/// <summary>Which rows of logits are sampled, as the device finds them. An <c>nint</c> is a device address.</summary>
internal readonly record struct CudaSampledRows
{
    public required IReadOnlyList<Sequence> Sequences { get; init; }

    /// <summary>[sequences]: their slots.</summary>
    public required nint Slots { get; init; }

    /// <summary>[sequences]: the position of each one's last token.</summary>
    public required nint Positions { get; init; }
    public required LogitEdits Edits { get; init; }
}

/// <summary>
/// From logits to tokens on a GPU, with the CPU sampler's rules: bias, masks, penalties, temperature, filters, the
/// draw. Tokens and log-probs are written straight into pinned memory, and tokens also into the table that the next
/// step reads.
/// </summary>
internal sealed unsafe class CudaSampler : IDisposable
{
    private const int Threads = 512;
    private const int MostShares = 32;
    private const int ShareBytes = 32;

    private readonly CudaDevice gpu;
    private readonly ModelConfig config;
    private readonly CudaStepInputs inputs;
    private readonly PinnedMemory[] results; // by turn: (token, log-prob) of each row
    private readonly PinnedMemory[] details; // by turn: (max, log of the sum, threshold, scale) of each row
    private readonly PinnedMemory?[] topLogits; // by turn: logits of the rows in topRows
    private readonly List<int>[] topRows; // by turn: rows that report their most probable tokens
    private readonly DeviceMemory thresholds;
    private readonly DeviceMemory shareResults;
    private readonly DeviceMemory arrived;
    private readonly Kernel sample;
    private readonly Kernel filter;
    private readonly Kernel edit;
    private readonly Kernel penalize;
    private readonly List<(int Row, int Token, float Value)> edits = [];

    /// <param name="depth">Steps whose results may not have been collected when the next one is launched.</param>
    public CudaSampler(CudaDevice gpu, ModelConfig config, CudaStepInputs inputs, int maxSequences, int depth)
    {
        this.gpu = gpu;
        this.config = config;
        this.inputs = inputs;
        results = [.. Enumerable.Range(0, depth).Select(_ => new PinnedMemory(gpu, 8L * maxSequences))];
        details = [.. Enumerable.Range(0, depth).Select(_ => new PinnedMemory(gpu, 16L * maxSequences))];
        topLogits = new PinnedMemory?[depth];
        topRows = [.. Enumerable.Range(0, depth).Select(_ => new List<int>())];
        thresholds = gpu.Allocate(4L * maxSequences, "sampling");
        shareResults = gpu.Allocate((long)ShareBytes * MostShares * maxSequences, "sampling");
        arrived = gpu.AllocateZeros(4L * maxSequences, "sampling");

        const string element = "ELEMENT=float"; // logits are f32; the kernels do not use it
        sample = gpu.Kernels.Get("Sampling", "sample", element);
        filter = gpu.Kernels.Get("SamplingFilters", "filter_thresholds", element);
        edit = gpu.Kernels.Get("LogitChanges", "edit_logits", element);
        penalize = gpu.Kernels.Get("LogitChanges", "penalties", element);
    }

    /// <summary>Adds the host's edits of these sequences' logits to the inputs, before the inputs are sent.</summary>
    public LogitEdits AddEdits(IReadOnlyList<Sequence> sampling)
    {
        edits.Clear();
        for (int row = 0; row < sampling.Count; row++)
            ListEdits(row, sampling[row]);
        if (edits.Count == 0)
            return default;

        // The edits, and the range of each row's.
        var editRoom = inputs.Add(4 * edits.Count, out int editsOffset);
        var ranges = new List<(int First, int End)>();
        for (int i = 0; i < edits.Count; i++)
        {
            var (row, token, value) = edits[i];
            editRoom[4 * i] = row;
            editRoom[4 * i + 1] = token;
            editRoom[4 * i + 2] = BitConverter.SingleToInt32Bits(value);
            editRoom[4 * i + 3] = 0;
            if (i == 0 || row != edits[i - 1].Row)
                ranges.Add((i, i));
            ranges[^1] = (ranges[^1].First, i + 1);
        }

        var rangeRoom = inputs.Add(2 * ranges.Count, out int rangesOffset);
        CollectionsMarshal.AsSpan(ranges).CopyTo(MemoryMarshal.Cast<int, (int, int)>(rangeRoom));
        return new(ranges.Count, rangesOffset, editsOffset);
    }

    private void ListEdits(int row, Sequence sequence)
    {
        var s = sequence.Request.Sampling;
        if (s.LogitBias.Count > 0)
            foreach (var (token, bias) in s.LogitBias)
                edits.Add((row, token, bias));

        // The engine waits for every token of a sequence with bad words: its output is complete here.
        foreach (int[] word in s.BadWords)
            if (sequence.Output.EndsWith(word.AsSpan(..^1)))
                edits.Add((row, word[^1], float.NegativeInfinity));

        if (sequence.Length - sequence.Request.PromptTokens.Length >= s.MinTokens)
            return;
        foreach (int stop in s.StopTokenIds)
            edits.Add((row, stop, float.NegativeInfinity));
        if (!s.IgnoreEos)
            foreach (int eos in config.EosTokenIds)
                edits.Add((row, eos, float.NegativeInfinity));
    }

    /// <summary>Launches the draw of a token from each row.</summary>
    /// <param name="turn">Which of the result buffers to fill.</param>
    /// <param name="logits">[at least as many rows as sequences, vocabulary] f32; changed.</param>
    public void Launch(int turn, Tensor logits, CudaSampledRows rows, CudaTables tables)
    {
        // What the rows need.
        bool hasFilters = false;
        bool hasPenalties = false;
        topRows[turn].Clear();
        for (int row = 0; row < rows.Sequences.Count; row++)
        {
            var s = rows.Sequences[row].Request.Sampling;
            hasFilters |= s.HasFilters;
            hasPenalties |= s.HasPenalties;
            if (s.TopLogProbs > 0)
                topRows[turn].Add(row);
        }

        // Change the logits.
        if (rows.Edits.Rows > 0)
            LaunchEdits(logits, rows.Edits);
        if (hasPenalties)
            LaunchPenalties(logits, rows, tables);

        // Draw.
        if (hasFilters)
            LaunchFilters(logits, rows, tables);
        LaunchDraw(turn, logits, rows, tables, hasFilters);
        if (topRows[turn].Count > 0)
            DownloadTop(turn, logits);
    }

    private void LaunchEdits(Tensor logits, LogitEdits changes) =>
        edit.Launch(
            ((changes.Rows + 63) / 64, 1),
            64,
            0,
            logits,
            config.VocabularySize,
            inputs.Address(changes.EditsOffset),
            inputs.Address(changes.RangesOffset),
            changes.Rows
        );

    private void LaunchPenalties(Tensor logits, CudaSampledRows rows, CudaTables tables) =>
        penalize.Launch(
            (rows.Sequences.Count, 1),
            256,
            (config.VocabularySize + 31) / 32 * 4,
            logits,
            config.VocabularySize,
            rows.Slots,
            rows.Positions,
            tables.Parameters,
            tables.Tokens.Address,
            tables.Tokens.Stride
        );

    private void LaunchFilters(Tensor logits, CudaSampledRows rows, CudaTables tables) =>
        filter.Launch(
            (rows.Sequences.Count, 1),
            Threads,
            0,
            logits,
            config.VocabularySize,
            rows.Slots,
            tables.Parameters,
            thresholds
        );

    private void LaunchDraw(int turn, Tensor logits, CudaSampledRows rows, CudaTables tables, bool hasFilters)
    {
        // Few rows are cut into shares, so that all multiprocessors have work.
        int count = rows.Sequences.Count;
        int mostShares = Math.Clamp(config.VocabularySize / (4 * Threads), 1, MostShares);
        int shares = Math.Clamp(2 * gpu.Multiprocessors / Math.Max(1, count), 1, mostShares);
        bool hasTop = topRows[turn].Count > 0;
        sample.Launch(
            (shares, count),
            Threads,
            0,
            logits,
            config.VocabularySize,
            rows.Slots,
            rows.Positions,
            tables.Parameters,
            hasFilters ? thresholds.Pointer : 0,
            tables.Tokens.Address,
            tables.Tokens.Stride,
            results[turn].Pointer,
            hasTop ? details[turn].Pointer : 0,
            shareResults,
            arrived
        );
    }

    /// <summary>
    /// Copies the logits of rows that report their most probable tokens to the host: rare, and small compared with a
    /// step.
    /// </summary>
    private void DownloadTop(int turn, Tensor logits)
    {
        long rowBytes = 4L * config.VocabularySize;
        long bytes = rowBytes * topRows[turn].Count;
        if (topLogits[turn] is not { } memory || memory.Bytes < bytes)
        {
            topLogits[turn]?.Dispose();
            memory = new(gpu, bytes);
            topLogits[turn] = memory;
        }

        for (int i = 0; i < topRows[turn].Count; i++)
        {
            nint source = Aten.DataPointer(logits) + (nint)(rowBytes * topRows[turn][i]);
            gpu.Download(source, memory.Pointer + (nint)(rowBytes * i), rowBytes);
        }
    }

    /// <summary>Reads the results of a step that the GPU has finished.</summary>
    /// <param name="positions">Position of each sequence's token in the output, for messages.</param>
    /// <param name="sampled">Receives the results.</param>
    public void Collect(int turn, IReadOnlyList<Sequence> sampling, IReadOnlyList<int> positions, Sampled[] sampled)
    {
        var drawn = results[turn].Span<(int Token, float LogProb)>();
        for (int row = 0; row < sampling.Count; row++)
        {
            var (token, logProb) = drawn[row];
            if (token < 0 && !sampling[row].Finished)
                throw Sampled.Impossible(sampling[row], positions[row], masked: token == -2);
            sampled[row] = new(token, logProb, null);
        }

        for (int i = 0; i < topRows[turn].Count; i++)
        {
            int row = topRows[turn][i];
            int wanted = sampling[row].Request.Sampling.TopLogProbs;
            sampled[row] = sampled[row] with { Top = MostProbable(turn, i, wanted) };
        }
    }

    /// <param name="index">Index in <c>topRows</c>.</param>
    private TokenLogProb[] MostProbable(int turn, int index, int wanted)
    {
        int vocabulary = config.VocabularySize;
        int row = topRows[turn][index];
        var (max, logSum, threshold, scale) = details[turn].Span<(float, float, float, float)>()[row];
        float* x = (float*)topLogits[turn]!.Pointer + (long)index * vocabulary;
        return Sampled.MostProbable(x, vocabulary, wanted, threshold, LogProb);

        float LogProb(int token) => (float)(((double)x[token] - max) * scale - logSum);
    }

    public void Dispose()
    {
        foreach (var memory in new[] { thresholds, shareResults, arrived })
            memory.Dispose();
        foreach (var memory in results.Concat(details).Concat(topLogits))
            memory?.Dispose();
    }
}
