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

    /// <summary>
    /// Neighbours with the same number have tokens in common before the first trained one, which a batch computes once;
    /// null for a sequence that shares nothing.
    /// </summary>
    public int? Group { get; init; }

    /// <summary>Number of trained tokens.</summary>
    public int Trained => Positions.Length;

    /// <summary>Tokens that the forward pass needs: the last one is only predicted.</summary>
    public int Computed => Tokens.Length - 1;

    /// <summary>Tokens before the first trained one; of a sequence without trained tokens, those that are computed.</summary>
    internal ReadOnlySpan<int> Prompt => Tokens.AsSpan(0, Positions.Length > 0 ? Positions[0] : Computed);

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
