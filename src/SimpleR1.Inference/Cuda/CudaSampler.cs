using System.Runtime.InteropServices;
using SimpleR1.Models;
using SimpleR1.Tensors.Cuda;
using static TorchSharp.torch;

namespace SimpleR1.Inference.Cuda;

/// <summary>How a slot's sequence is sampled, as kernels read it: struct Parameters of Kernels/SlotParameters.cuh.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct CudaSlotParameters
{
    public const int Length = 12; // in ints

    public ulong Seed;
    public float Scale;
    public int Greedy,
        TopK;
    public float TopP,
        MinP,
        Repetition,
        Presence,
        Frequency;
    public int PromptLength,
        Reserved;

    public static CudaSlotParameters Of(Sequence sequence)
    {
        var s = sequence.Request.Sampling;
        bool greedy = s.Temperature == 0;
        return new()
        {
            Seed = sequence.Seed,
            Scale = greedy ? 1 : (float)(1 / s.Temperature),
            Greedy = greedy ? 1 : 0,
            TopK = s.TopK,
            TopP = (float)s.TopP,
            MinP = (float)s.MinP,
            Repetition = (float)s.RepetitionPenalty,
            Presence = (float)s.PresencePenalty,
            Frequency = (float)s.FrequencyPenalty,
            PromptLength = sequence.Request.PromptTokens.Length,
        };
    }
}

/// <summary>
/// From logits to tokens on a GPU, with the CPU sampler's rules: bias, masks, penalties, temperature, filters, the draw. Tokens and log-probs are
/// written straight into pinned memory, and tokens also into the table that the next step reads.
/// </summary>
internal sealed unsafe class CudaSampler : IDisposable
{
    private const int Threads = 512,
        MostShares = 32,
        ShareBytes = 32;

    private readonly CudaDevice gpu;
    private readonly ModelConfig config;
    private readonly PinnedMemory[] results,
        details;
    private readonly PinnedMemory?[] topLogits;
    private readonly List<int>[] topRows;
    private readonly DeviceMemory thresholds,
        meeting,
        arrived;
    private readonly Kernel sample,
        filter,
        edit,
        penalize;
    private readonly List<(int Row, int Token, float Value)> edits = [];

    public CudaSampler(CudaDevice gpu, ModelConfig config, int maxSequences, int depth)
    {
        (this.gpu, this.config) = (gpu, config);
        results = [.. Enumerable.Range(0, depth).Select(_ => new PinnedMemory(gpu, 8L * maxSequences))];
        details = [.. Enumerable.Range(0, depth).Select(_ => new PinnedMemory(gpu, 16L * maxSequences))];
        topLogits = new PinnedMemory?[depth];
        topRows = [.. Enumerable.Range(0, depth).Select(_ => new List<int>())];
        thresholds = gpu.Allocate(4L * maxSequences, "sampling");
        meeting = gpu.Allocate((long)ShareBytes * MostShares * maxSequences, "sampling");
        arrived = gpu.AllocateZeros(4L * maxSequences, "sampling");
        string element = "ELEMENT=float"; // of logits; not used
        sample = gpu.Kernels.Get("Sampling", "sample", element);
        filter = gpu.Kernels.Get("SamplingFilters", "filter_thresholds", element);
        edit = gpu.Kernels.Get("LogitChanges", "edit_logits", element);
        penalize = gpu.Kernels.Get("LogitChanges", "penalties", element);
    }

    /// <summary>Lists what the host changes of the logits of these sequences, before the inputs are sent.</summary>
    /// <returns>How many rows have edits, and where their ranges and edits are.</returns>
    public (int Rows, int Ranges, int Edits) AddEdits(CudaStepInputs inputs, IReadOnlyList<Sequence> sampling)
    {
        edits.Clear();
        for (int row = 0; row < sampling.Count; row++)
            ListEdits(row, sampling[row]);
        if (edits.Count == 0)
            return default;
        var to = inputs.Add(4 * edits.Count, out int editsAt);
        var ranges = new List<(int, int)>();
        for (int i = 0; i < edits.Count; i++)
        {
            (to[4 * i], to[4 * i + 1], to[4 * i + 2], to[4 * i + 3]) = (
                edits[i].Row,
                edits[i].Token,
                BitConverter.SingleToInt32Bits(edits[i].Value),
                0
            );
            if (i == 0 || edits[i].Row != edits[i - 1].Row)
                ranges.Add((i, i));
            ranges[^1] = (ranges[^1].Item1, i + 1);
        }
        CollectionsMarshal
            .AsSpan(ranges)
            .CopyTo(MemoryMarshal.Cast<int, (int, int)>(inputs.Add(2 * ranges.Count, out int rangesAt)));
        return (ranges.Count, rangesAt, editsAt);
    }

    private void ListEdits(int row, Sequence sequence)
    {
        var s = sequence.Request.Sampling;
        if (s.LogitBias.Count > 0)
            foreach (var (token, bias) in s.LogitBias)
                edits.Add((row, token, bias));
        foreach (int[] word in s.BadWords) // the engine waits for every token of such a sequence: its output is complete here
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

    /// <param name="turn">Which of the result buffers to fill.</param>
    /// <param name="logits">[at least the sequences' number, vocabulary] f32</param>
    /// <param name="slots">[sequences]: device addresses, like <paramref name="at"/> (the position of each one's last token)</param>
    public void Launch(
        int turn,
        Tensor logits,
        IReadOnlyList<Sequence> sampling,
        nint slots,
        nint at,
        nint parameters,
        nint tokens,
        int tokenStride,
        (int Rows, nint Ranges, nint Edits) changes
    )
    {
        int rows = sampling.Count,
            vocabulary = config.VocabularySize;
        bool filters = false,
            penalties = false;
        topRows[turn].Clear();
        for (int row = 0; row < rows; row++)
        {
            var s = sampling[row].Request.Sampling;
            filters |= s.Temperature > 0 && (s.TopK > 0 || s.TopP < 1 || s.MinP > 0);
            penalties |= s.RepetitionPenalty != 1 || s.PresencePenalty != 0 || s.FrequencyPenalty != 0;
            if (s.TopLogProbs > 0)
                topRows[turn].Add(row);
        }
        if (changes.Rows > 0)
            edit.Launch(
                ((changes.Rows + 63) / 64, 1),
                64,
                0,
                logits,
                vocabulary,
                changes.Edits,
                changes.Ranges,
                changes.Rows
            );
        if (penalties)
            penalize.Launch(
                (rows, 1),
                256,
                (vocabulary + 31) / 32 * 4,
                logits,
                vocabulary,
                slots,
                at,
                parameters,
                tokens,
                tokenStride
            );
        if (filters)
            filter.Launch((rows, 1), Threads, 0, logits, vocabulary, slots, parameters, thresholds);
        // Few rows are cut into shares, so that all multiprocessors have some.
        int shares = Math.Clamp(
            2 * gpu.Multiprocessors / Math.Max(1, rows),
            1,
            Math.Min(MostShares, Math.Max(1, vocabulary / (4 * Threads)))
        );
        bool top = topRows[turn].Count > 0;
        sample.Launch(
            (shares, rows),
            Threads,
            0,
            logits,
            vocabulary,
            slots,
            at,
            parameters,
            filters ? thresholds.Pointer : 0,
            tokens,
            tokenStride,
            results[turn].Pointer,
            top ? details[turn].Pointer : 0,
            meeting,
            arrived
        );
        if (top)
            DownloadTop(turn, logits);
    }

    /// <summary>Where rows want the most probable tokens too, their logits come to the host: rare, and small against a step.</summary>
    private void DownloadTop(int turn, Tensor logits)
    {
        long row = 4L * config.VocabularySize;
        if (topLogits[turn] is not { } memory || memory.Bytes < row * topRows[turn].Count)
        {
            topLogits[turn]?.Dispose();
            topLogits[turn] = memory = new(gpu, row * topRows[turn].Count);
        }
        for (int i = 0; i < topRows[turn].Count; i++)
            gpu.Download(
                Tensors.Aten.DataPointer(logits) + (nint)(row * topRows[turn][i]),
                memory.Pointer + (nint)(row * i),
                row
            );
    }

    /// <summary>Reads the results of a step that the GPU has finished.</summary>
    /// <param name="positions">Of each sequence's token in the output, for messages.</param>
    public void Collect(int turn, IReadOnlyList<Sequence> sampling, IReadOnlyList<int> positions, Sampled[] to)
    {
        var drawn = results[turn].Span<(int Token, float LogProb)>();
        for (int row = 0; row < sampling.Count; row++)
        {
            if (drawn[row].Token < 0 && !sampling[row].Finished)
                throw Sampled.Impossible(sampling[row], positions[row], masked: drawn[row].Token == -2);
            to[row] = new(drawn[row].Token, drawn[row].LogProb, null);
        }
        for (int i = 0; i < topRows[turn].Count; i++)
        {
            int row = topRows[turn][i];
            var (max, logSum, threshold, scale) = details[turn].Span<(float, float, float, float)>()[row];
            float* x = (float*)topLogits[turn]!.Pointer + (long)i * config.VocabularySize;
            to[row] = to[row] with
            {
                Top = Sampled.MostProbable(
                    x,
                    config.VocabularySize,
                    sampling[row].Request.Sampling.TopLogProbs,
                    threshold,
                    t => (float)(((double)x[t] - max) * scale - logSum)
                ),
            };
        }
    }

    public void Dispose()
    {
        foreach (var memory in new[] { thresholds, meeting, arrived })
            memory.Dispose();
        foreach (var memory in results.Concat(details).Concat(topLogits))
            memory?.Dispose();
    }
}
