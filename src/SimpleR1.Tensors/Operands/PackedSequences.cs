namespace SimpleR1.Tensors.Operands;

/// <summary>Segments that lie one after another, without padding: whole sequences, or a prefix and what follows it.</summary>
/// <param name="Segments">In the order of their tokens.</param>
public readonly record struct PackedSequences(Segment[] Segments, AttentionShape Shape)
{
    /// <summary>Whole sequences, by the first token of each and then the number of tokens.</summary>
    public static PackedSequences Whole(int[] offsets, AttentionShape shape) =>
        new([.. offsets.Zip(offsets.Skip(1), (first, end) => new Segment(first, end - first))], shape);

    /// <summary>Tokens of all segments.</summary>
    public int Tokens => Segments.Length == 0 ? 0 : Segments[^1].End;

    /// <summary>Tokens that a segment's own come after: those of its prefix.</summary>
    public int PrefixOf(int segment) => Segments[segment].Prefix < 0 ? 0 : Segments[Segments[segment].Prefix].Count;

    /// <summary>The segments that have no prefix, each with those after it whose prefix it is.</summary>
    public IEnumerable<Range> Families()
    {
        for (int first = 0, end; first < Segments.Length; first = end)
        {
            end = first + 1;
            while (end < Segments.Length && Segments[end].Prefix == first)
                end++;
            yield return first..end;
        }
    }

    /// <exception cref="ArgumentException">
    /// A segment is empty or not after the one before it, or its prefix is not the last segment without one.
    /// </exception>
    internal void Check()
    {
        int end = 0;
        int root = -1;
        for (int i = 0; i < Segments.Length; i++)
        {
            var segment = Segments[i];
            if (segment.Prefix < 0)
                root = i;
            else if (segment.Prefix != root)
                throw new ArgumentException(
                    $"segment {i} has the prefix {segment.Prefix}; expected {root}, the last segment without a prefix, or none"
                );
            if (segment.First != end || segment.Count < 1)
                throw new ArgumentException(
                    $"segment {i} has {segment.Count} tokens from {segment.First} on; expected at least one, from {end} on"
                );
            end = segment.End;
        }
    }
}
