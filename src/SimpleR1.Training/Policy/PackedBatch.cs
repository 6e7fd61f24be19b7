using SimpleR1.Models;
using SimpleR1.Tensors;
using static TorchSharp.torch;

namespace SimpleR1.Training.Policy;

/// <summary>Sequences of one micro-batch, one after another: no padding token is ever computed.</summary>
public sealed class PackedBatch : IDisposable
{
    public PackedBatch(IReadOnlyList<TrainingSequence> sequences)
    {
        int computed = sequences.Sum(s => s.Computed);
        int trained = sequences.Sum(s => s.Trained);
        long[] ids = new long[computed];
        long[] positions = new long[computed];
        long[] rows = new long[trained];
        long[] targets = new long[trained];
        Offsets = new int[sequences.Count + 1];

        int start = 0;
        int row = 0;
        for (int s = 0; s < sequences.Count; s++)
        {
            sequences[s].Check(s);
            var (tokens, trainedPositions) = sequences[s];
            Offsets[s] = start;

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

    /// <summary>log p and entropy of every trained token: two [trained] f32 tensors.</summary>
    public (Tensor LogProbs, Tensor Entropy) LogProbs(
        Decoder decoder,
        Tape? tape,
        double temperature,
        bool checkpointing = false
    )
    {
        using var noGradient = no_grad();
        var attention = new PackedAttention(decoder.Config, Offsets);
        var hidden = decoder.Hidden(Ids, Positions, attention, tape, checkpointing); // [computed, hidden]
        return Ops.TokenLogProbs(tape, Ops.SelectRows(tape, hidden, Rows), decoder.OutputWeight, Targets, temperature);
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

    private static Tensor Keep(long[] values) => tensor(values).DetachFromDisposeScope();

    public void Dispose()
    {
        Ids.Dispose();
        Positions.Dispose();
        Rows.Dispose();
        Targets.Dispose();
    }
}
