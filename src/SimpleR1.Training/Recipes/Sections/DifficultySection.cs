using System.ComponentModel;

namespace SimpleR1.Training.Recipes.Sections;

/// <summary>The <c>rollout.difficulty</c> section.</summary>
public sealed record DifficultySection : IRecipeSection
{
    [Description("Leave out problems of which a smaller share of samples was correct.")]
    [Limits(AtLeast = 0, AtMost = 1)]
    public double MinSolved { get; init; }

    [Description("Leave out problems of which a larger share of samples was correct; 1 leaves out none.")]
    [Limits(AtLeast = 0, AtMost = 1)]
    public double MaxSolved { get; init; } = 1;

    [Description(
        "How often the turn of a problem that is left out is taken all the same, so that it is measured again."
    )]
    [Limits(AtLeast = 0, AtMost = 1)]
    public double Revisit { get; init; } = 0.1;

    [Description(
        "An evaluation of the training problems (the folder of `eval --output`), whose shares count until a problem is asked. "
            + "Without it every problem is asked once before it is left out."
    )]
    public string? Measured { get; init; }

    internal bool LeavesOut => MinSolved > 0 || MaxSolved < 1;

    public IEnumerable<Conflict> Validate()
    {
        if (MinSolved > MaxSolved)
            yield return new($"is above max_solved, {MaxSolved}: every problem would be left out", "min_solved");
        if (Measured is not null && !LeavesOut)
            yield return new("leaves nothing out without min_solved or max_solved", "measured");
    }
}
