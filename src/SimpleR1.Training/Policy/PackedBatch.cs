using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using SimpleR1.Tensors.Operands;
using static TorchSharp.torch;

namespace SimpleR1.Training.Policy;

/// <summary>
/// Sequences of one micro-batch, one after another: no padding token is ever computed. What the samples of a group begin
/// with is a segment of its own, which they all see.
/// </summary>
public sealed class PackedBatch : IDisposable
{
    private readonly CudaDevice? gpu;
    private readonly int longest; // computed tokens of a sequence
    private readonly int[] trainedBefore; // rows of the sequences before each, then of all

    /// <param name="gpu">Where the batch is computed, in the current <see cref="ResultMemory"/>; null for the CPU.</param>
    public PackedBatch(IReadOnlyList<TrainingSequence> sequences, CudaDevice? gpu = null)
    {
        this.gpu = gpu;
        for (int s = 0; s < sequences.Count; s++)
            sequences[s].Check(s);

        var packing = new Packing();
        foreach (var group in SharedPrompts.Groups(sequences))
            packing.Add(sequences.Take(group), SharedPrompts.Length(sequences, group));
        longest = sequences.Select(s => s.Computed).DefaultIfEmpty().Max();
        trainedBefore = [.. TrainedBefore(sequences)];
        Segments = [.. packing.Segments];
        Ids = Keep(packing.Ids);
        Positions = Keep(packing.Positions);
        Rows = Keep(packing.Rows);
        Targets = Keep(packing.Targets);
    }

    /// <summary>[computed] int64</summary>
    public Tensor Ids { get; }

    /// <summary>[computed] int64: each token's place in its sequence, from 0</summary>
    public Tensor Positions { get; }

    /// <summary>
    /// [trained] int64: the computed rows that predict a trained token. A shared prompt's last row predicts the first
    /// token of each sample.
    /// </summary>
    public Tensor Rows { get; }

    /// <summary>[trained] int64: the tokens that these rows predict</summary>
    public Tensor Targets { get; }

    /// <summary>The computed tokens: sequences, or a shared prompt and what each of its samples has after it.</summary>
    public Segment[] Segments { get; }

    /// <summary>Tokens that the forward pass computes.</summary>
    public int Computed => Segments.Length == 0 ? 0 : Segments[^1].End;

    /// <summary>The decoder's result for every row that predicts a trained token: [trained, hidden].</summary>
    /// <exception cref="ArgumentException">A sequence is longer than the model's positions.</exception>
    public Tensor Hidden(Decoder decoder, Tape? tape, bool checkpointing = false)
    {
        if (longest > decoder.Config.MaxPositions)
            throw new ArgumentException(
                $"a sequence needs {longest} positions, and the model has {decoder.Config.MaxPositions}"
            );
        using var noGradient = no_grad();
        var attention = new PackedAttention(decoder.Config, Segments);
        var hidden = decoder.Hidden(Ids, Positions, attention, tape, checkpointing); // [computed, hidden]
        return Ops.SelectRows(tape, hidden, Rows);
    }

    /// <summary>log p and entropy of every trained token, without a gradient: two [trained] f32 tensors.</summary>
    public (Tensor LogProbs, Tensor Entropy) LogProbs(Decoder decoder, double temperature, HeadMemory memory)
    {
        using var noGradient = no_grad();
        var hidden = Hidden(decoder, null);
        return Ops.TokenLogProbs(null, hidden, decoder.OutputWeight, new(Targets, temperature), memory);
    }

    /// <summary>Consecutive sequences with at most this many trained tokens; a longer sequence is a part of its own.</summary>
    /// <returns>The sequences, the first of their trained tokens, and how many they have.</returns>
    public IEnumerable<(Range Sequences, int First, int Count)> Parts(long rows)
    {
        int first = 0;
        for (int s = 1; s < trainedBefore.Length; s++)
        {
            bool isFull = s + 1 < trainedBefore.Length && trainedBefore[s + 1] - trainedBefore[first] > rows;
            if (!isFull && s + 1 < trainedBefore.Length)
                continue;
            yield return (first..s, trainedBefore[first], trainedBefore[s] - trainedBefore[first]);
            first = s;
        }
    }

    /// <summary>
    /// Splits sequences, in their order, into micro-batches of at most <paramref name="tokens"/> computed tokens. A group
    /// is cut, and its prompt repeated, only where no micro-batch can hold it. A longer sequence is a micro-batch of its
    /// own.
    /// </summary>
    public static IEnumerable<Range> Split(IReadOnlyList<TrainingSequence> sequences, int tokens)
    {
        int first = 0;
        int sum = 0;
        foreach (var group in SharedPrompts.Groups(sequences))
        {
            var (start, end) = (group.Start.Value, group.End.Value);
            int computed = SharedPrompts.Computed(sequences, group);
            if (start > first && sum + computed > tokens)
            {
                yield return first..start;
                first = start;
                sum = 0;
            }

            // As many samples of a large group as fit; the next group may join the last of them
            for (int i = start + 1; computed > tokens && i < end; i++)
            {
                if (SharedPrompts.Computed(sequences, first..(i + 1)) <= tokens)
                    continue;
                yield return first..i;
                first = i;
                computed = SharedPrompts.Computed(sequences, i..end);
            }
            sum += computed;
        }
        if (first < sequences.Count)
            yield return first..sequences.Count;
    }

    private Tensor Keep(List<long> values)
    {
        var host = tensor(values.ToArray());
        if (gpu is null)
            return host.DetachFromDisposeScope();
        using (host)
            return gpu.FromHost(host).DetachFromDisposeScope();
    }

    private static IEnumerable<int> TrainedBefore(IReadOnlyList<TrainingSequence> sequences)
    {
        int sum = 0;
        yield return sum;
        foreach (var sequence in sequences)
            yield return sum += sequence.Trained;
    }

    public void Dispose()
    {
        Ids.Dispose();
        Positions.Dispose();
        Rows.Dispose();
        Targets.Dispose();
    }

    /// <summary>The batch as it grows.</summary>
    private sealed class Packing
    {
        public List<long> Ids { get; } = [];
        public List<long> Positions { get; } = [];
        public List<long> Rows { get; } = [];
        public List<long> Targets { get; } = [];
        public List<Segment> Segments { get; } = [];

        /// <param name="shared">Tokens that all sequences begin with and that are computed once.</param>
        public void Add(IEnumerable<TrainingSequence> sequences, int shared)
        {
            int prefix = -1;
            int prompt = 0; // row of the first shared token
            foreach (var sequence in sequences)
            {
                if (shared > 0 && prefix < 0)
                {
                    prefix = Segments.Count;
                    prompt = Ids.Count;
                    AddSegment(sequence.Tokens.AsSpan(0, shared), 0, -1);
                }

                // Every token but the last is computed
                int start = Ids.Count;
                AddSegment(sequence.Tokens.AsSpan(shared..^1), shared, prefix);

                // A trained token is predicted by the row before it
                foreach (int position in sequence.Positions)
                {
                    int place = position - 1;
                    Rows.Add(place < shared ? prompt + place : start + place - shared);
                    Targets.Add(sequence.Tokens[position]);
                }
            }
        }

        /// <param name="position">Of the first token in its sequence.</param>
        private void AddSegment(ReadOnlySpan<int> tokens, int position, int prefix)
        {
            if (tokens.Length == 0)
                return;
            Segments.Add(new(Ids.Count, tokens.Length, prefix));
            foreach (int token in tokens)
            {
                Ids.Add(token);
                Positions.Add(position++);
            }
        }
    }
}
