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

/// <summary>Where in a step's inputs the rows are that report their most probable tokens.</summary>
/// <param name="Rows">Number of such rows.</param>
/// <param name="Offset">{row, tokens wanted, place of the first in the results, -}: offset into the inputs.</param>
/// <param name="Places">Tokens wanted by all rows.</param>
internal readonly record struct TopRows(int Rows, int Offset, int Places);

/// <summary>Which rows of logits are sampled, as the device finds them. An <c>nint</c> is a device address.</summary>
internal readonly record struct CudaSampledRows
{
    public required IReadOnlyList<Sequence> Sequences { get; init; }

    /// <summary>[sequences]: their slots.</summary>
    public required nint Slots { get; init; }

    /// <summary>[sequences]: the position of each one's last token.</summary>
    public required nint Positions { get; init; }
    public required LogitEdits Edits { get; init; }
    public required TopRows Top { get; init; }
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
    private readonly PinnedMemory?[] topTokens; // by turn: (token, logit) of all that topRows want
    private readonly PinnedMemory[] topCounts; // by turn: tokens of each of topRows
    private readonly List<(int Row, int Wanted, int Place)>[] topRows; // by turn: rows that report their most probable tokens
    private readonly CudaFilters filters;
    private readonly DeviceMemory shareResults;
    private readonly DeviceMemory arrived;
    private readonly Kernel sample;
    private readonly Kernel top;
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
        topTokens = new PinnedMemory?[depth];
        topCounts = [.. Enumerable.Range(0, depth).Select(_ => new PinnedMemory(gpu, 4L * maxSequences))];
        topRows = [.. Enumerable.Range(0, depth).Select(_ => new List<(int, int, int)>())];
        filters = new(gpu, config.VocabularySize, maxSequences);
        shareResults = gpu.Allocate((long)ShareBytes * MostShares * maxSequences, "sampling");
        arrived = gpu.AllocateZeros(4L * maxSequences, "sampling");

        const string element = "ELEMENT=float"; // logits are f32; the kernels do not use it
        sample = gpu.Kernels.Get("Sampling", "sample", element);
        top = gpu.Kernels.Get("TopTokens", "top_tokens", element);
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

    /// <summary>
    /// Adds to the inputs which rows report their most probable tokens, before the inputs are sent.
    /// </summary>
    /// <param name="turn">The step's result buffers.</param>
    public TopRows AddTopRows(int turn, IReadOnlyList<Sequence> sampling)
    {
        var list = topRows[turn];
        list.Clear();
        int places = 0;
        for (int row = 0; row < sampling.Count; row++)
        {
            int wanted = sampling[row].Request.Sampling.TopLogProbs;
            if (wanted == 0)
                continue;
            list.Add((row, wanted, places));
            places += wanted;
        }
        if (list.Count == 0)
            return default;

        var room = MemoryMarshal.Cast<int, (int, int, int, int)>(inputs.Add(4 * list.Count, out int offset));
        for (int i = 0; i < list.Count; i++)
            room[i] = (list[i].Row, list[i].Wanted, list[i].Place, 0);
        return new(list.Count, offset, places);
    }

    /// <summary>Launches the draw of a token from each row.</summary>
    /// <param name="turn">Which of the result buffers to fill.</param>
    /// <param name="logits">[at least as many rows as sequences, vocabulary] f32; changed.</param>
    public void Launch(int turn, Tensor logits, CudaSampledRows rows, CudaTables tables)
    {
        // What the rows need.
        bool hasFilters = false;
        bool hasPenalties = false;
        foreach (var sequence in rows.Sequences)
        {
            hasFilters |= sequence.Request.Sampling.HasFilters;
            hasPenalties |= sequence.Request.Sampling.HasPenalties;
        }

        // Change the logits.
        if (rows.Edits.Rows > 0)
            LaunchEdits(logits, rows.Edits);
        if (hasPenalties)
            LaunchPenalties(logits, rows, tables);

        // Draw.
        if (hasFilters)
        {
            int count = rows.Sequences.Count;
            filters.Launch(
                Aten.DataPointer(logits),
                rows.Slots,
                tables.Parameters,
                count,
                SharesOf(gpu, config.VocabularySize, count)
            );
        }
        LaunchDraw(turn, logits, rows, tables, hasFilters);
        if (rows.Top.Rows > 0)
            LaunchTop(turn, logits, rows.Top, hasFilters);
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

    /// <summary>Blocks that share a row: few rows are cut up, so that all multiprocessors have work.</summary>
    public static int SharesOf(CudaDevice gpu, int vocabulary, int rows)
    {
        int most = Math.Clamp(vocabulary / (4 * Threads), 1, MostShares);
        return Math.Clamp(2 * gpu.Multiprocessors / Math.Max(1, rows), 1, most);
    }

    private void LaunchDraw(int turn, Tensor logits, CudaSampledRows rows, CudaTables tables, bool hasFilters)
    {
        bool hasTop = rows.Top.Rows > 0;
        sample.Launch(
            (SharesOf(gpu, config.VocabularySize, rows.Sequences.Count), rows.Sequences.Count),
            Threads,
            0,
            logits,
            config.VocabularySize,
            rows.Slots,
            rows.Positions,
            tables.Parameters,
            hasFilters ? filters.Thresholds : 0,
            tables.Tokens.Address,
            tables.Tokens.Stride,
            results[turn].Pointer,
            hasTop ? details[turn].Pointer : 0,
            shareResults,
            arrived
        );
    }

    private void LaunchTop(int turn, Tensor logits, TopRows rows, bool hasFilters)
    {
        long bytes = 8L * rows.Places;
        if (topTokens[turn] is not { } memory || memory.Bytes < bytes)
        {
            topTokens[turn]?.Dispose();
            memory = new(gpu, bytes);
            topTokens[turn] = memory;
        }

        top.Launch(
            (rows.Rows, 1),
            Threads,
            0,
            logits,
            config.VocabularySize,
            inputs.Address(rows.Offset),
            hasFilters ? filters.Thresholds : 0,
            memory.Pointer,
            topCounts[turn].Pointer
        );
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
            int row = topRows[turn][i].Row;
            sampled[row] = sampled[row] with { Top = MostProbable(turn, i) };
        }
    }

    /// <param name="index">Index in <c>topRows</c>.</param>
    private TokenLogProb[] MostProbable(int turn, int index)
    {
        var (row, _, place) = topRows[turn][index];
        int count = topCounts[turn].Span<int>()[index];
        var found = topTokens[turn]!.Span<(int Token, float Logit)>().Slice(place, count);
        var (max, logSum, _, scale) = details[turn].Span<(float, float, float, float)>()[row];
        var tokens = new TokenLogProb[count];
        for (int i = 0; i < count; i++)
            tokens[i] = new(found[i].Token, (float)(((double)found[i].Logit - max) * scale - logSum));
        return Sampled.Ordered(tokens);
    }

    public void Dispose()
    {
        filters.Dispose();
        foreach (var memory in new[] { shareResults, arrived })
            memory.Dispose();
        foreach (var memory in results.Concat(details).Concat(topTokens).Concat(topCounts))
            memory?.Dispose();
    }
}
