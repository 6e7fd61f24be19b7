using System.ComponentModel;

namespace SimpleR1.Training.Recipes.Sections;

/// <summary>The <c>rollout</c> section.</summary>
public sealed record RolloutSection
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

    [Description("1 samples the model's own distribution.")]
    [Limits(AtLeast = 0, AtMost = 10)]
    public double Temperature { get; init; } = 1;

    [Description("Keep the smallest set of most probable tokens whose mass reaches it; 1 keeps all.")]
    [Limits(Above = 0, AtMost = 1)]
    public double TopP { get; init; } = 1;

    [Description("Keep the k most probable tokens; 0 keeps all.")]
    [Limits(AtLeast = 0)]
    public int TopK { get; init; }

    [Description("Keep tokens at least this fraction as probable as the most probable one; 0 keeps all.")]
    [Limits(AtLeast = 0, Below = 1)]
    public double MinP { get; init; }

    [Description(
        "Strings that end a completion; they stay in its text. One that is exactly a special token of the tokenizer "
            + "acts as its id."
    )]
    public ValueList<string> Stop { get; init; } = [];

    [Description("Token ids that end a completion, in addition to the model's own; their text stays in its text.")]
    public ValueList<int> StopTokenIds { get; init; } = [];

    /// <summary>Key of the first filter that cuts the model's own distribution; null when none does.</summary>
    internal string? Filter
    {
        get
        {
            if (TopP < 1)
                return "top_p";
            if (TopK > 0)
                return "top_k";
            return MinP > 0 ? "min_p" : null;
        }
    }
}
