using System.ComponentModel;

namespace SimpleR1.Training.Recipes.Sections;

/// <summary>The <c>rollout</c> section.</summary>
public sealed record RolloutSection : IRecipeSection
{
    [Description("Different prompts in one step.")]
    [Limits(AtLeast = 1)]
    public int PromptsPerStep { get; init; } = 32;

    [Description("Samples of each prompt: the group.")]
    [Limits(AtLeast = 1)]
    public int SamplesPerPrompt { get; init; } = 8;

    [Description("Longest completion, in tokens.")]
    [Limits(AtLeast = 1)]
    public int MaxNewTokens { get; init; } = 1024;

    [Description(
        "Prompts in flight beyond prompts_per_step: a step ends when prompts_per_step groups are complete; the others "
            + "continue in the next step, with its weights (partial rollouts; set algorithm.importance_cap). "
            + "Which ones depends on time, so such a run can't be repeated bit for bit."
    )]
    [Limits(AtLeast = 0)]
    public int Carry { get; init; }

    [Description(
        "How often a step may sample more prompts in place of groups whose samples all earned the same, which are then dropped "
            + "(dynamic sampling, DAPO). With 0 it keeps all groups."
    )]
    [Limits(AtLeast = 0)]
    public int Refills { get; init; }

    [Description("Which problems are left out because they are too easy or too hard.")]
    public DifficultySection Difficulty { get; init; } = new();

    [Description("1 samples the model's own distribution.")]
    [Limits(AtLeast = 0, AtMost = 10)]
    public double Temperature { get; init; } = 1;

    [Description("Must be 1: training needs the whole distribution. For evaluations there is evaluation.top_p.")]
    [Limits(Above = 0, AtMost = 1)]
    public double TopP { get; init; } = 1;

    [Description("Must be 0: training needs the whole distribution. For evaluations there is evaluation.top_k.")]
    [Limits(AtLeast = 0)]
    public int TopK { get; init; }

    [Description("Must be 0: training needs the whole distribution. For evaluations there is evaluation.min_p.")]
    [Limits(AtLeast = 0, Below = 1)]
    public double MinP { get; init; }

    [Description(
        "Strings that end a completion; they stay in its text. One that is exactly a special token of the tokenizer "
            + "acts as its id."
    )]
    public ValueList<string> Stop { get; init; } = [];

    [Description("Token ids that end a completion, in addition to the model's own; their text stays in its text.")]
    public ValueList<int> StopTokenIds { get; init; } = [];

    public IEnumerable<Conflict> Validate() =>
        [.. Whole("top_p", TopP < 1), .. Whole("top_k", TopK > 0), .. Whole("min_p", MinP > 0), .. RefillConflicts()];

    private IEnumerable<Conflict> RefillConflicts()
    {
        if (Refills > 0 && Carry > 0)
            yield return new(
                "a step that carries groups over ends before it knows which of them teach something; set one of the two to 0",
                "refills",
                "carry"
            );
    }

    /// <summary>
    /// A filter's samples come from other probabilities than those that the trainer computes, so that every ratio and
    /// importance weight would be multiplied by the mass that the filter kept.
    /// </summary>
    private static IEnumerable<Conflict> Whole(string filter, bool filters)
    {
        if (filters)
            yield return new(
                "samples to train on must come from the whole distribution: the trainer computes log-probs without the "
                    + "filter, so its importance weights would be wrong by the mass that the filter keeps. Leave it out; "
                    + $"a rollout.temperature below 1 sharpens rightly, and evaluation.{filter} filters evaluations",
                filter
            );
    }
}
