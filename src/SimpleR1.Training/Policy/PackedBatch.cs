using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using SimpleR1.Tensors.Operands;
using static TorchSharp.torch;

namespace SimpleR1.Training.Policy;

/// <summary>Sequences of one micro-batch, one after another: no padding token is ever computed.</summary>
public sealed class PackedBatch : IDisposable
{
    private readonly CudaDevice? gpu;
    private readonly int[] trainedBefore; // rows of the sequences before each, then of all

    /// <param name="gpu">Where the batch is computed, in the current <see cref="ResultMemory"/>; null for the CPU.</param>
    public PackedBatch(IReadOnlyList<TrainingSequence> sequences, CudaDevice? gpu = null)
    {
        this.gpu = gpu;
        int computed = sequences.Sum(s => s.Computed);
        int trained = sequences.Sum(s => s.Trained);
        long[] ids = new long[computed];
        long[] positions = new long[computed];
        long[] rows = new long[trained];
        long[] targets = new long[trained];
        Offsets = new int[sequences.Count + 1];
        trainedBefore = new int[sequences.Count + 1];

        int start = 0;
        int row = 0;
        for (int s = 0; s < sequences.Count; s++)
        {
            sequences[s].Check(s);
            var (tokens, trainedPositions) = sequences[s];
            Offsets[s] = start;
            trainedBefore[s] = row;

            // Every token but the last is computed
            for (int i = 0; i < tokens.Length - 1; i++)
            {
                ids[start + i] = tokens[i];
                positions[start + i] = i;
            }

            // A trained token is predicted by the row before it
            foreach (int position in trainedPositions)
            {
                rows[row] = start + position - 1;
                targets[row] = tokens[position];
                row++;
            }
            start += tokens.Length - 1;
        }
        Offsets[^1] = start;
        trainedBefore[^1] = row;
        Ids = Keep(ids);
        Positions = Keep(positions);
        Rows = Keep(rows);
        Targets = Keep(targets);
    }

    /// <summary>[computed] int64</summary>
    public Tensor Ids { get; }

    /// <summary>[computed] int64, from 0 in each sequence</summary>
    public Tensor Positions { get; }

    /// <summary>[trained] int64: the computed rows that predict a trained token</summary>
    public Tensor Rows { get; }

    /// <summary>[trained] int64: the tokens that these rows predict</summary>
    public Tensor Targets { get; }

    /// <summary>Index of each sequence's first computed token, then the number of computed tokens.</summary>
    public int[] Offsets { get; }

    /// <summary>The decoder's result for every row that predicts a trained token: [trained, hidden].</summary>
    public Tensor Hidden(Decoder decoder, Tape? tape, bool checkpointing = false)
    {
        using var noGradient = no_grad();
        var attention = new PackedAttention(decoder.Config, Offsets);
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
        for (int s = 1; s < Offsets.Length; s++)
        {
            bool isFull = s + 1 < Offsets.Length && trainedBefore[s + 1] - trainedBefore[first] > rows;
            if (!isFull && s + 1 < Offsets.Length)
                continue;
            yield return (first..s, trainedBefore[first], trainedBefore[s] - trainedBefore[first]);
            first = s;
        }
    }

    /// <summary>
    /// Splits sequences, in their order, into micro-batches of at most <paramref name="tokens"/> computed tokens. A
    /// longer sequence is a micro-batch of its own.
    /// </summary>
    public static IEnumerable<Range> Split(IReadOnlyList<TrainingSequence> sequences, int tokens)
    {
        int first = 0;
        int sum = 0;
        for (int i = 0; i < sequences.Count; i++)
        {
            if (i > first && sum + sequences[i].Computed > tokens)
            {
                yield return first..i;
                first = i;
                sum = 0;
            }
            sum += sequences[i].Computed;
        }
        if (first < sequences.Count)
            yield return first..sequences.Count;
    }

    private Tensor Keep(long[] values)
    {
        var host = tensor(values);
        if (gpu is null)
            return host.DetachFromDisposeScope();
        using (host)
            return gpu.FromHost(host).DetachFromDisposeScope();
    }

    public void Dispose()
    {
        Ids.Dispose();
        Positions.Dispose();
        Rows.Dispose();
        Targets.Dispose();
    }
}
