namespace SimpleR1.Training.Policy;

/// <summary>Which tokens of neighbouring sequences are the same, so that one computation serves all of them.</summary>
internal static class SharedPrompts
{
    /// <summary>Neighbours of one group; a sequence without a group is alone.</summary>
    public static IEnumerable<Range> Groups(IReadOnlyList<TrainingSequence> sequences)
    {
        for (int first = 0, end; first < sequences.Count; first = end)
        {
            end = first + 1;
            while (sequences[first].Group is { } group && end < sequences.Count && sequences[end].Group == group)
                end++;
            yield return first..end;
        }
    }

    /// <summary>
    /// How many tokens a group's sequences have in common from the first on, none of them trained; 0 for a single
    /// sequence.
    /// </summary>
    public static int Length(IReadOnlyList<TrainingSequence> sequences, Range group)
    {
        var (first, end) = (group.Start.Value, group.End.Value);
        if (end - first < 2)
            return 0;

        var shared = sequences[first].Prompt;
        for (int i = first + 1; i < end; i++)
            shared = shared[..shared.CommonPrefixLength(sequences[i].Prompt)];
        return shared.Length;
    }

    /// <summary>Tokens that are computed for a group in one batch.</summary>
    public static int Computed(IReadOnlyList<TrainingSequence> sequences, Range group)
    {
        var (first, end) = (group.Start.Value, group.End.Value);
        int computed = 0;
        for (int i = first; i < end; i++)
            computed += sequences[i].Computed;
        return computed - (end - first - 1) * Length(sequences, group);
    }
}
