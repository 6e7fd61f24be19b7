using System.Runtime.InteropServices;
using SimpleR1.Inference.Scheduling;

namespace SimpleR1.Inference.Cuda;

/// <summary>A sequence's rows in a step: <paramref name="Count"/> tokens from <paramref name="FirstRow"/> on.</summary>
internal readonly record struct SequenceRows(Sequence Sequence, int Count, int FirstRow);

/// <summary>
/// The inputs of a step in which some sequences compute several tokens. All room is reserved first, because reserving
/// more may move what is reserved; then it is filled. Addresses are known after the inputs are sent.
/// </summary>
/// <param name="tokensPerItem">Tokens of an item of paged_prefill; 0 without that kernel.</param>
internal sealed class CudaMixedStep(CudaStepInputs inputs, int tokensPerItem)
{
    private int tokenCount;
    private int sampledCount;

    // Offsets into the inputs.
    private int slots;
    private int positions;
    private int items;
    private int lastRows;
    private int lastSlots;
    private int lastPositions;

    /// <summary>Number of items of paged_prefill.</summary>
    public int ItemCount { get; private set; }

    /// <summary>[tokens]: the slot of each token's sequence.</summary>
    public nint Slots => inputs.Address(slots);

    /// <summary>[tokens]: the position of each token.</summary>
    public nint Positions => inputs.Address(positions);

    /// <summary>[items]: {first row, tokens, position of the first, slot}.</summary>
    public nint Items => inputs.Address(items);

    /// <summary>[sampled] int64: the last row of each sequence whose next token is drawn.</summary>
    public nint LastRows => inputs.Address(lastRows);

    /// <summary>[sampled]: their slots.</summary>
    public nint LastSlots => inputs.Address(lastSlots);

    /// <summary>[sampled]: the positions of their last tokens.</summary>
    public nint LastPositions => inputs.Address(lastPositions);

    /// <summary>Reserves room in the inputs.</summary>
    /// <param name="tokens">Tokens of the step.</param>
    /// <param name="sampled">Sequences whose next token is drawn.</param>
    public void Reserve(List<SequenceRows> rows, int tokens, int sampled)
    {
        tokenCount = tokens;
        sampledCount = sampled;
        ItemCount = 0;
        foreach (var row in rows)
            ItemCount += ItemsOf(row);

        inputs.Add(tokens, out slots);
        inputs.Add(tokens, out positions);
        inputs.Add(4 * ItemCount, out items);
        inputs.Add(2 * sampled, out lastRows);
        inputs.Add(sampled, out lastSlots);
        inputs.Add(sampled, out lastPositions);
    }

    /// <summary>Writes what <see cref="Reserve"/> made room for.</summary>
    public void Fill(List<SequenceRows> rows)
    {
        FillTokens(rows);
        FillItems(rows);
        FillLast(rows);
    }

    private int ItemsOf(SequenceRows rows) =>
        rows.Sequence.Decoding || tokensPerItem == 0 ? 0 : (rows.Count + tokensPerItem - 1) / tokensPerItem;

    private void FillTokens(List<SequenceRows> rows)
    {
        var slotRoom = inputs.Room(slots, tokenCount);
        var positionRoom = inputs.Room(positions, tokenCount);
        foreach (var (sequence, count, first) in rows)
            for (int i = 0; i < count; i++)
            {
                slotRoom[first + i] = sequence.Slot;
                positionRoom[first + i] = sequence.Computed + i;
            }
    }

    private void FillItems(List<SequenceRows> rows)
    {
        var room = inputs.Room(items, 4 * ItemCount);
        foreach (var row in rows)
        {
            int count = ItemsOf(row);
            for (int i = 0; i < count; i++)
            {
                int first = i * tokensPerItem;
                room[0] = row.FirstRow + first;
                room[1] = Math.Min(tokensPerItem, row.Count - first);
                room[2] = row.Sequence.Computed + first;
                room[3] = row.Sequence.Slot;
                room = room[4..];
            }
        }
    }

    private void FillLast(List<SequenceRows> rows)
    {
        var rowRoom = MemoryMarshal.Cast<int, long>(inputs.Room(lastRows, 2 * sampledCount));
        var slotRoom = inputs.Room(lastSlots, sampledCount);
        var positionRoom = inputs.Room(lastPositions, sampledCount);
        int index = 0;
        foreach (var (sequence, count, first) in rows)
        {
            if (sequence.Computed + count < sequence.Length)
                continue;
            rowRoom[index] = first + count - 1;
            slotRoom[index] = sequence.Slot;
            positionRoom[index] = sequence.Computed + count - 1;
            index++;
        }
    }
}
