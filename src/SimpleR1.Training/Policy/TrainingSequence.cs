namespace SimpleR1.Training.Policy;

/// <summary>Token ids, some of which are trained.</summary>
/// <param name="Positions">
/// Places of the trained tokens, ascending, from 1: the first token has nothing before it to predict it from.
/// </param>
public readonly record struct TrainingSequence(int[] Tokens, int[] Positions)
{
    /// <summary>A sequence whose tail is trained, from <paramref name="trainFrom"/> (at least 1) to the end.</summary>
    public TrainingSequence(int[] tokens, int trainFrom)
        : this(tokens, [.. Enumerable.Range(trainFrom, Math.Max(0, tokens.Length - trainFrom))]) { }

    /// <summary>Number of trained tokens.</summary>
    public int Trained => Positions.Length;

    /// <summary>Tokens that the forward pass computes: the last one is only predicted.</summary>
    public int Computed => Tokens.Length - 1;

    /// <exception cref="ArgumentException">
    /// No position is trained, or positions do not ascend within 1 .. the last token.
    /// </exception>
    internal void Check(int index)
    {
        int last = 0;
        foreach (int position in Positions)
        {
            if (position <= last || position >= Tokens.Length)
                throw new ArgumentException(
                    $"sequence {index} of {Tokens.Length} tokens: expected ascending trained positions "
                        + $"within 1 .. {Tokens.Length - 1}, found {position} after {last}"
                );
            last = position;
        }
        if (Positions.Length == 0)
            throw new ArgumentException($"sequence {index} of {Tokens.Length} tokens: no token is trained");
    }
}
