using SimpleR1.Models;
using SimpleR1.Tensors;
using static TorchSharp.torch;

namespace SimpleR1.Training.Policy;

/// <summary>Sequences of one micro-batch, one after another: no padding token is ever computed.</summary>
public sealed class PackedBatch : IDisposable
{
    public PackedBatch(IReadOnlyList<TrainingSequence> sequences)
    {
        int computed = sequences.Sum(s => s.Computed),
            trained = sequences.Sum(s => s.Trained);
        long[] ids = new long[computed],
            positions = new long[computed],
            rows = new long[trained],
            targets = new long[trained];
        Offsets = new int[sequences.Count + 1];
        int at = 0,
            row = 0;
        for (int s = 0; s < sequences.Count; s++)
        {
            sequences[s].Check(s);
            var (tokens, trainedPositions) = sequences[s];
            Offsets[s] = at;

            // Every token but the last is computed
            for (int i = 0; i < tokens.Length - 1; i++)
            {
                ids[at + i] = tokens[i];
                positions[at + i] = i;
            }

            // A trained token is predicted by the row before it
            foreach (int position in trainedPositions)
            {
                rows[row] = at + position - 1;
                targets[row++] = tokens[position];
            }
            at += tokens.Length - 1;
        }
        Offsets[^1] = at;
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

    /// <summary>[trained] int64: the tokens predicted there</summary>
    public Tensor Targets { get; }

    /// <summary>First computed token of each sequence, then their number.</summary>
    public int[] Offsets { get; }

    /// <summary>log p and entropy of every trained token: two [trained] f32 tensors.</summary>
    public (Tensor LogProbs, Tensor Entropy) LogProbs(
        Decoder decoder,
        Tape? tape,
        double temperature,
        bool checkpointing = false
    )
    {
        using var none = no_grad();
        var hidden = decoder.Hidden(Ids, Positions, new PackedAttention(decoder.Config, Offsets), tape, checkpointing); // [computed, hidden]
        return Ops.TokenLogProbs(tape, Ops.SelectRows(tape, hidden, Rows), decoder.OutputWeight, Targets, temperature);
    }

    /// <summary>Splits sequences, in their order, into micro-batches of at most <paramref name="tokens"/> computed tokens (a longer sequence stands alone).</summary>
    public static IEnumerable<Range> Split(IReadOnlyList<TrainingSequence> sequences, int tokens)
    {
        int from = 0,
            sum = 0;
        for (int i = 0; i < sequences.Count; i++)
        {
            if (i > from && sum + sequences[i].Computed > tokens)
            {
                yield return from..i;
                (from, sum) = (i, 0);
            }
            sum += sequences[i].Computed;
        }
        if (from < sequences.Count)
            yield return from..sequences.Count;
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
