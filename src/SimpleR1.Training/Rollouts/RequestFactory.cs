using SimpleR1.Inference;
using SimpleR1.Models.Prompts;
using SimpleR1.Models.Prompts.Jinja;
using SimpleR1.Models.Tokenization;
using SimpleR1.Training.Data;
using SimpleR1.Training.Recipes;

namespace SimpleR1.Training.Rollouts;

/// <summary>
/// Turns problems into requests: the prompt as token ids, the recipe's sampling, and a seed that a resumed run repeats.
/// </summary>
internal sealed class RequestFactory(TrainRecipe recipe, Tokenizer tokenizer, PromptTemplate template)
{
    /// <summary>Longest answer of an evaluation, in tokens.</summary>
    public int EvaluationTokens => recipe.Evaluation.MaxNewTokens ?? recipe.Rollout.MaxNewTokens;

    /// <summary>A problem's prompt as token ids.</summary>
    /// <exception cref="ArgumentException">The template has no place for the problem's messages.</exception>
    /// <exception cref="JinjaException">The model's chat template refuses them.</exception>
    public int[] Encode(Problem problem) => template.Encode(tokenizer, template.Render(problem.Conversation));

    /// <summary>The part of a problem's answer that its prompt already holds, such as <c>&lt;think&gt;</c>.</summary>
    public string AnswerStart(Problem problem) => template.AnswerStart(problem.Conversation);

    /// <summary>A group of samples to train on.</summary>
    /// <param name="place">Place of the prompt in its step; the request's seed follows from it.</param>
    public GenerationRequest ForTraining(int step, int place, Problem problem) =>
        new(
            $"step-{step}-prompt-{place}",
            Encode(problem),
            Sampling(recipe.Rollout.Temperature) with
            {
                Samples = recipe.Rollout.SamplesPerPrompt,
                MaxTokens = recipe.Rollout.MaxNewTokens,
                Seed = Seed(step, place),
            }
        );

    /// <summary>The answers to a held-out problem. Their seeds are the same after every step.</summary>
    public GenerationRequest ForEvaluation(int step, int place, Problem problem) =>
        new($"evaluation-{step}-{place}", Encode(problem), EvaluationSampling with { Seed = Seed(-1, place) });

    /// <summary>How held-out problems are answered, without their seeds.</summary>
    public SamplingParameters EvaluationSampling
    {
        get
        {
            var options = recipe.Evaluation;
            bool greedy = options.Temperature == 0; // the filters mean nothing then
            return Sampling(options.Temperature) with
            {
                Samples = options.Samples,
                MaxTokens = EvaluationTokens,
                TopP = greedy ? 1 : options.TopP,
                TopK = greedy ? 0 : options.TopK,
                MinP = greedy ? 0 : options.MinP,
            };
        }
    }

    private SamplingParameters Sampling(double temperature) =>
        new()
        {
            Temperature = temperature,
            MaxTokens = recipe.Rollout.MaxNewTokens,
            StopStrings = recipe.Rollout.Stop,
            StopTokenIds = recipe.Rollout.StopTokenIds,
            IncludeStopString = true,
            KeepSpecialTokens = true, // rewards see tags that the tokenizer marks as special
        };

    /// <summary>
    /// Follows from the run's seed, the step and the place in the step, so that a resumed run draws the same samples.
    /// </summary>
    private ulong Seed(int step, int place)
    {
        ulong run = SplitMix64.Mix(recipe.Seed ^ 0x5EED);
        return SplitMix64.Mix(run + (ulong)(step + 2) * 0x1_0000_0001 + (ulong)place);
    }
}
