using SimpleR1.Training.Algorithms;
using static System.FormattableString;

namespace SimpleR1.Training.Runs.Reports;

/// <summary>
/// Looks for runs that cannot learn, or have stopped to: each sign is reported once, with what it means and what to try.
/// It sees nothing but step reports.
/// </summary>
/// <param name="vocabulary">Tokens of the model's vocabulary.</param>
/// <param name="engineDifference">The recipe's <c>training.engine_difference_alarm</c>.</param>
public sealed class RunWarnings(int vocabulary, double engineDifference)
{
    /// <summary>Steps in a row that a sign of collapse must last; in a shorter run, all of its steps.</summary>
    private const int CollapseSteps = 3;

    /// <summary>Steps in a row in which no group may teach anything.</summary>
    private const int UniformSteps = 5;

    /// <summary>Steps in a row in which a reward may pay nothing.</summary>
    private const int UnpaidSteps = 20;

    private const double AlmostAll = 0.999;
    private const double AlmostRandom = 0.95; // of the entropy of drawing tokens at random
    private const double AlmostCertain = 0.005; // nats a token
    private const double MuchLower = 0.1; // of the entropy of the first steps
    private const double MostGroups = 0.8;
    private const double WellAnswered = 0.9;
    private const string RewardPrefix = "reward_";

    /// <summary>Divergences that no healthy run has, in nats a token.</summary>
    private readonly Dictionary<string, (double Limit, string Advice)> divergences = new()
    {
        [EngineDifference.Metric] = (
            engineDifference,
            "trainer and workers compute different log-probs from the same weights: use workers.type bf16 or f32, and check that "
                + "servers report log-probs at the recipe's temperature; training.engine_difference_alarm sets this limit"
        ),
        ["kl_engine"] = (
            0.5,
            "the workers sample from another distribution than the trainer computes: sample without top_p, top_k and "
                + "min_p, use workers.type bf16 or f32, and check that servers report log-probs at the recipe's temperature"
        ),
        ["kl_update"] = (
            1,
            "a step's updates move the policy far from the samples they learn from: lower optimizer.learning_rate, "
                + "algorithm.epochs or algorithm.mini_batches"
        ),
        ["kl_reference"] = (
            20,
            "the policy has left the first model far behind: lower optimizer.learning_rate, raise algorithm.kl_coefficient"
        ),
    };

    private readonly Dictionary<string, int> streaks = []; // steps in a row with a sign
    private readonly HashSet<string> reported = [];
    private int steps;
    private double firstEntropy; // nats a token, mean of the first steps

    /// <summary>Warnings that this step is the first reason for.</summary>
    public IReadOnlyList<string> Check(StepReport r)
    {
        steps++;
        if (steps <= CollapseSteps)
            firstEntropy += r.Entropy / CollapseSteps;
        bool isLast = r.Step >= r.Steps;
        List<string?> warnings =
        [
            Sign("random", IsRandom(r), CollapseSteps, isLast, RandomText(r)),
            Sign("certain", IsStuck(r), CollapseSteps, isLast, StuckText(r)),
            Sign("narrow", IsNarrow(r), CollapseSteps, isLast: false, NarrowText(r)),
            Sign("truncated", r.Truncated >= AlmostAll, CollapseSteps, isLast, TruncatedText(r)),
            Sign("uniform", r.UniformGroups >= AlmostAll, UniformSteps, isLast, UniformText(r)),
        ];
        foreach (var (name, value) in r.Details)
        {
            if (name.StartsWith(RewardPrefix, StringComparison.Ordinal))
                warnings.Add(
                    Sign(name, value == 0, UnpaidSteps, isLast: false, UnpaidText(name[RewardPrefix.Length..]))
                );
            else if (divergences.TryGetValue(name, out var divergence))
                warnings.Add(
                    Sign(
                        name,
                        value > divergence.Limit,
                        CollapseSteps,
                        isLast,
                        Invariant($"{name} is {value:G3} nats a token: {divergence.Advice}")
                    )
                );
        }
        return [.. warnings.OfType<string>()];
    }

    /// <returns>The text when the sign has lasted long enough, once; else null.</returns>
    private string? Sign(string name, bool isThere, int needed, bool isLast, string text)
    {
        int streak = isThere ? streaks.GetValueOrDefault(name) + 1 : 0;
        streaks[name] = streak;
        bool isLong = streak >= needed || isLast && streak == steps && streak > 0;
        return isLong && reported.Add(name) ? text : null;
    }

    private bool IsRandom(StepReport r) => r.Accuracy == 0 && r.Entropy > AlmostRandom * Math.Log(vocabulary);

    private static bool IsStuck(StepReport r) => r.Accuracy == 0 && r.Reward <= 0 && r.Entropy < AlmostCertain;

    /// <summary>Samples of a prompt are so alike that few groups teach anything, while much is still wrong.</summary>
    private bool IsNarrow(StepReport r) =>
        steps > CollapseSteps
        && r.Entropy < MuchLower * firstEntropy
        && r.UniformGroups >= MostGroups
        && r.Accuracy is > 0 and < WellAnswered;

    private string RandomText(StepReport r) =>
        Invariant($"the entropy is {r.Entropy:F2} nats a token, of {Math.Log(vocabulary):F2} when tokens are drawn at ")
        + "random, and nothing is right: the policy has collapsed, or was never trained. Go back to a checkpoint before, "
        + "with a lower optimizer.learning_rate; if it was so from the first step, check the model and its template";

    private static string StuckText(StepReport r) =>
        Invariant(
            $"the entropy is {r.Entropy:F4} nats a token and nothing is earned: the policy has collapsed onto one "
        )
        + "wrong answer, which sampling can't leave. Go back to a checkpoint before, with a lower "
        + "optimizer.learning_rate, a larger algorithm.clip_high or an algorithm.kl_coefficient";

    private string NarrowText(StepReport r) =>
        Invariant($"the entropy has fallen from {firstEntropy:G3} to {r.Entropy:G3} nats a token, and all samples of ")
        + Invariant(
            $"{100 * r.UniformGroups:F0}% of the groups earn the same: the policy has stopped to explore. Go back "
        )
        + "to a checkpoint before, with a larger algorithm.clip_high, a lower optimizer.learning_rate or an "
        + "algorithm.kl_coefficient; rollout.refills looks for the groups that still teach something";

    private static string TruncatedText(StepReport r) =>
        Invariant(
            $"every completion is cut at rollout.max_new_tokens (mean length {r.Length:F0}): the model never ends "
        )
        + "its answer. Raise it if answers need more room; else give rollout.stop, and check that model.template is "
        + "the one that the model was trained with";

    private static string UniformText(StepReport r)
    {
        string meaning =
            $"all samples of each group earn the same (mean reward {Invariant($"{r.Reward:F3}")}), so that every "
            + "advantage is 0 and nothing is learned. ";
        return r.Accuracy >= AlmostAll
            ? meaning + "All are right: take harder problems, or stop here"
            : meaning
                + "Take easier problems, more rollout.samples_per_prompt or a higher rollout.temperature, or a reward "
                + "with partial marks; read samples.jsonl to see whether the rewards find the answers at all";
    }

    private static string UnpaidText(string reward) =>
        $"the reward '{reward}' was 0 for every sample of {UnpaidSteps} steps: it teaches nothing. Read samples.jsonl: "
        + "either the model never does what it pays for, and needs a prompt or an sft start that shows it, or the reward "
        + "does not see it";
}
