using System.ComponentModel;

namespace SimpleR1.Training.Recipes.Sections;

/// <summary>The <c>evaluation</c> section.</summary>
public sealed record EvaluationSection : IRecipeSection
{
    [Description("Completions of each problem; accuracy is their mean.")]
    [Limits(AtLeast = 1)]
    public int Samples { get; init; } = 1;

    [Description("0 is greedy.")]
    [Limits(AtLeast = 0, AtMost = 10)]
    public double Temperature { get; init; }

    [Description("Keep the smallest set of most probable tokens whose mass reaches it; 1 keeps all.")]
    [Limits(Above = 0, AtMost = 1)]
    public double TopP { get; init; } = 1;

    [Description("Keep the k most probable tokens; 0 keeps all.")]
    [Limits(AtLeast = 0)]
    public int TopK { get; init; }

    [Description("Keep tokens at least this fraction as probable as the most probable one; 0 keeps all.")]
    [Limits(AtLeast = 0, Below = 1)]
    public double MinP { get; init; }

    [Description("Longest completion, in tokens; without it that of rollout.")]
    [Limits(AtLeast = 1)]
    public int? MaxNewTokens { get; init; }

    [Description(
        "Each k of which pass@k is reported: the probability that one of k samples is correct. Without it `samples`, when that "
            + "is above 1."
    )]
    [Limits(AtLeast = 1)]
    public ValueList<int>? PassAt { get; init; }

    [Description(
        "Each k of which majority@k is reported: whether the answer that most of k samples give is correct. Without it "
            + "`samples`, when that is above 1."
    )]
    [Limits(AtLeast = 1)]
    public ValueList<int>? MajorityAt { get; init; }

    internal IReadOnlyList<int> PassAtOrDefault => OrDefault(PassAt);
    internal IReadOnlyList<int> MajorityAtOrDefault => OrDefault(MajorityAt);

    private IReadOnlyList<int> OrDefault(ValueList<int>? given)
    {
        if (given is not null)
            return given;
        return Samples > 1 ? [Samples] : [];
    }

    public IEnumerable<Conflict> Validate() =>
        [.. Conflicts(PassAt, "pass_at"), .. Conflicts(MajorityAt, "majority_at")];

    private IEnumerable<Conflict> Conflicts(ValueList<int>? ks, string key)
    {
        for (int i = 0; i < (ks?.Count ?? 0); i++)
        {
            if (ks![i] > Samples)
                yield return new(
                    $"{ks[i]} samples are more than the {Samples} of each problem",
                    $"{key}.{i}",
                    "samples"
                );
            if (ks.Take(i).Contains(ks[i]))
                yield return new($"{ks[i]} is given twice", $"{key}.{i}");
        }
    }
}
