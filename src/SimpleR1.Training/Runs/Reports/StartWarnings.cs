using SimpleR1.Models;
using SimpleR1.Training.Recipes;

namespace SimpleR1.Training.Runs.Reports;

/// <summary>What keeps a run from learning, as far as it shows before the first step.</summary>
internal static class StartWarnings
{
    public static void Log(TrainRecipe recipe, ModelConfig config, Action<string> log)
    {
        recipe.Optimizer.LogShortWarmup(recipe.Training.Steps, log);
        foreach (string warning in Of(recipe, config))
            log("warning: " + warning);
    }

    private static IEnumerable<string> Of(TrainRecipe recipe, ModelConfig config)
    {
        bool stops = recipe.Rollout.Stop.Count + recipe.Rollout.StopTokenIds.Count > 0;
        if (config.EosTokenIds.Count == 0 && !stops)
            yield return $"{recipe.Model.Path} names no end-of-text token, and the recipe no rollout.stop: every completion "
                + "runs to rollout.max_new_tokens. Add eos_token_id to its generation_config.json, or give rollout.stop";
        if (recipe.Optimizer.LearningRate == 0)
            yield return "optimizer.learning_rate is 0: the weights never change";
        if (recipe.Rewards.All(r => r.Weight == 0))
            yield return "every reward has weight 0: all samples earn the same, so nothing is learned";
    }
}
