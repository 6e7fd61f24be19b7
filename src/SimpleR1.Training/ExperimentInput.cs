using SimpleR1.Models;
using SimpleR1.Models.Prompts;
using SimpleR1.Models.Prompts.Jinja;
using SimpleR1.Models.Tokenization;
using SimpleR1.Training.Data;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Rewards;
using SimpleR1.Training.Rollouts;
using SimpleR1.Training.Runs;

namespace SimpleR1.Training;

/// <summary>All that a recipe's files hold, except weights: read and checked before anything slow starts.</summary>
internal sealed record ExperimentInput
{
    public required ModelConfig Config { get; init; }
    public required Tokenizer Tokenizer { get; init; }
    public required PromptTemplate Template { get; init; }

    /// <summary>What a checkpoint has besides weights.</summary>
    public required ModelFiles Files { get; init; }
    public required RequestFactory Requests { get; init; }
    public required RewardSet Rewards { get; init; }

    /// <summary>Problems to train on; none of them is held out.</summary>
    public required IReadOnlyList<Problem> Problems { get; init; }
    public required IReadOnlyList<Problem> HeldOut { get; init; }

    /// <summary>Longest prompt and completion together, in tokens.</summary>
    public required int Context { get; init; }

    /// <exception cref="InvalidDataException">
    /// A file is damaged, no problem is left to train on, or a prompt does not fit the context.
    /// </exception>
    public static ExperimentInput Load(TrainRecipe recipe, Action<string> log)
    {
        // The model's files
        var config = ModelConfigFile.Load(recipe.Model.Path);
        var tokenizer = Tokenizer.Load(recipe.Model.Path);
        tokenizer.CheckFits(config);
        if (config.EndWarning is { } warning)
            log(warning);
        foreach (int id in recipe.Rollout.StopTokenIds.Where(id => id < 0 || id >= config.VocabularySize))
            throw new InvalidDataException(
                $"rollout.stop_token_ids: {id} is outside the model's vocabulary of {config.VocabularySize}"
            );
        var template = PromptTemplate.Create(
            recipe.Model.Template,
            new()
            {
                Folder = recipe.Model.Path,
                System = recipe.Model.System,
                Variables = recipe.Model.TemplateOptions.Variables,
            }
        );

        // Problems
        var problems = Dataset.Load(recipe.Data.Train, log);
        var heldOut = recipe.Data.Evaluation is { } evaluation ? Dataset.Load(evaluation, log) : [];

        var input = new ExperimentInput
        {
            Config = config,
            Tokenizer = tokenizer,
            Template = template,
            Files = new(recipe.Model.Path, tokenizer, template),
            Requests = new(recipe, tokenizer, template),
            Rewards = RewardSet.Load(recipe.Rewards),
            Problems = WithoutHeldOut(problems, heldOut, log),
            HeldOut = heldOut,
            Context = Math.Min(config.MaxPositions, recipe.Model.MaxContext),
        };
        input.CheckPrompts(recipe.Rollout.MaxNewTokens);
        if (DataMix.Describe(recipe.Data.Train, input.Problems.Select(p => p.Source)) is { } mix)
            log($"training on {mix}");
        return input;
    }

    private static Problem[] WithoutHeldOut(
        IReadOnlyList<Problem> problems,
        IReadOnlyList<Problem> heldOut,
        Action<string> log
    )
    {
        var questions = heldOut.Select(Asked).ToHashSet();
        Problem[] training = [.. problems.Where(p => !questions.Contains(Asked(p)))];
        if (training.Length == 0)
            throw new InvalidDataException(
                "every training problem is also held out for evaluation; nothing is left to train on"
            );
        int removed = problems.Count - training.Length;
        if (removed > 0)
            log($"{removed} training problems are held out for evaluation and left out of training");
        return training;
    }

    /// <summary>All that a problem asks: two conversations may end with the same question.</summary>
    private static string Asked(Problem problem) =>
        problem.Messages is { } messages
            ? string.Join('\0', messages.SelectMany(m => new[] { m.Role, m.Content }))
            : problem.Question;

    private void CheckPrompts(int newTokens)
    {
        int longest = Math.Max(newTokens, HeldOut.Count > 0 ? Requests.EvaluationTokens : 0);
        foreach (var problem in Problems.Concat(HeldOut))
        {
            int length = PromptLength(problem);
            if (length + longest <= Context)
                continue;
            string beginning = problem.Question[..Math.Min(80, problem.Question.Length)];
            throw new InvalidDataException(
                $"{Place(problem)}a prompt of {length} tokens and {longest} new tokens do not fit the context of {Context}: "
                    + $"lower rollout.max_new_tokens or leave out long problems. It begins: {beginning}"
            );
        }
    }

    private static string Place(Problem problem) => problem.Origin == "" ? "" : problem.Origin + ": ";

    private int PromptLength(Problem problem)
    {
        try
        {
            return Requests.Encode(problem).Length;
        }
        catch (Exception e) when (e is ArgumentException or JinjaException)
        {
            throw new InvalidDataException(
                $"{Place(problem)}no prompt by the template '{Template.Name}': {e.Message}. "
                    + $"Its question begins: {problem.Question[..Math.Min(80, problem.Question.Length)]}",
                e
            );
        }
    }
}
