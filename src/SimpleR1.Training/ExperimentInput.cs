using System.Collections.Concurrent;
using SimpleR1.Models;
using SimpleR1.Models.Prompts;
using SimpleR1.Models.Prompts.Jinja;
using SimpleR1.Models.Tokenization;
using SimpleR1.Training.Data;
using SimpleR1.Training.Planning;
using SimpleR1.Training.Policy;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Rewards;
using SimpleR1.Training.Rollouts;
using SimpleR1.Training.Runs;
using SimpleR1.Training.Runs.Evaluations;
using SimpleR1.Training.Runs.Reports;

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

    /// <summary>By the training problem's index, the share of samples that solved it before the run, where that is known.</summary>
    public required IReadOnlyDictionary<int, double> Solved { get; init; }

    /// <summary>Tokens of each training problem's prompt.</summary>
    public IReadOnlyList<int> PromptLengths { get; private set; } = [];

    /// <summary>Longest prompt and completion together, in tokens.</summary>
    public required int Context { get; init; }
    public required RunMemory Memory { get; init; }

    /// <summary>Where the run computes.</summary>
    public RunDevices Devices => Memory.Devices;

    /// <exception cref="RecipeException">
    /// Something in the recipe is wrong, or in what it names: the run's folder, the model, template, data, rewards,
    /// devices or ports. The exception has all of it.
    /// </exception>
    public static ExperimentInput Load(CheckedRecipe<TrainRecipe> checking, ExperimentOptions options)
    {
        var recipe = checking.Recipe;
        TrainerDevice.Prepare(recipe.Training.Device);
        checking.Try("name", () => RunFolder.Find(options.RunsFolder, recipe.Name, options.Existing));

        var model = CheckedModel.Check(checking, "model.path", recipe.Model.Path);
        CheckStopIds(checking, model);
        var template = checking.Try("model.template", () => CreateTemplate(recipe.Model));
        var (problems, heldOut) = LoadProblems(checking, options.Events.Log);
        var solved = ReadSolved(checking, problems);

        // What scores completions
        var rewards = LoadRewards(checking, options.Events.Log);
        int context = Math.Min(model?.Config.MaxPositions ?? int.MaxValue, recipe.Model.MaxContext);
        var memory = PlanMemory(checking, model?.Config, context, options);

        if (model is null || template is null || problems is null || heldOut is null || solved is null)
            throw checking.ToException();
        if (rewards is null || memory is null)
            throw checking.ToException();
        var input = new ExperimentInput
        {
            Config = model.Config,
            Tokenizer = model.Tokenizer,
            Template = template,
            Files = new(recipe.Model.Path, model.Tokenizer, template),
            Requests = new(recipe, model.Tokenizer, template),
            Rewards = rewards,
            Problems = problems,
            HeldOut = heldOut,
            Solved = solved,
            Context = context,
            Memory = memory,
        };
        input.CheckPrompts(checking);
        checking.Require();
        if (DataMix.Describe(recipe.Data.Train, input.Problems.Select(p => p.Source)) is { } mix)
            options.Events.Log($"training on {mix}");
        StartWarnings.Log(recipe, input.Config, options.Events.Log);
        return input;
    }

    /// <summary>Chooses and checks devices and sizes; null where there is a problem.</summary>
    private static RunMemory? PlanMemory(
        CheckedRecipe<TrainRecipe> checking,
        ModelConfig? config,
        int context,
        ExperimentOptions options
    )
    {
        bool startsWorkers = options.Join is null && checking.Recipe.Workers.Servers.Count == 0;
        var devices = RunDevices.Choose(checking, config, startsWorkers, options);
        WorkersCheck.Check(checking, config, devices, context, startsWorkers);
        return devices is null || config is null
            ? null
            : checking.Try(
                "training.tokens_per_micro_batch",
                () => RunMemory.Plan(checking.Recipe, devices, config, context)
            );
    }

    private static PromptTemplate CreateTemplate(ModelSection model) =>
        PromptTemplate.Create(
            model.Template,
            new()
            {
                Folder = model.Path,
                System = model.System,
                Variables = model.TemplateOptions.Variables,
            }
        );

    private static (IReadOnlyList<Problem>? Training, IReadOnlyList<Problem>? HeldOut) LoadProblems(
        CheckedRecipe<TrainRecipe> checking,
        Action<string> log
    )
    {
        var data = checking.Recipe.Data;
        var training = checking.Try("data.train", () => Dataset.Load(data.Train, log));
        var heldOut = data.Evaluation is { } evaluation
            ? checking.Try("data.evaluation", () => Dataset.Load(evaluation, log))
            : [];
        if (training is null || heldOut is null)
            return (training, heldOut);
        return (WithoutHeldOut(checking, training, heldOut, log), heldOut);
    }

    private static IReadOnlyDictionary<int, double>? ReadSolved(
        CheckedRecipe<TrainRecipe> checking,
        IReadOnlyList<Problem>? problems
    ) =>
        checking.Recipe.Rollout.Difficulty.Measured is { } path && problems is not null
            ? checking.Try("rollout.difficulty.measured", () => MeasuredDifficulty.Read(path, problems))
            : new Dictionary<int, double>();

    private static IReadOnlyList<Problem>? WithoutHeldOut(
        CheckedRecipe<TrainRecipe> checking,
        IReadOnlyList<Problem> problems,
        IReadOnlyList<Problem> heldOut,
        Action<string> log
    )
    {
        var questions = heldOut.Select(Asked).ToHashSet();
        Problem[] training = [.. problems.Where(p => !questions.Contains(Asked(p)))];
        if (training.Length == 0)
        {
            checking.Add(
                "data.train",
                "every training problem is also held out for evaluation; nothing is left to train on"
            );
            return null;
        }
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

    private static void CheckStopIds(CheckedRecipe<TrainRecipe> checking, CheckedModel? model)
    {
        if (model is null)
            return;
        int size = model.Config.VocabularySize;
        foreach (int id in checking.Recipe.Rollout.StopTokenIds.Where(id => id < 0 || id >= size))
            checking.Add("rollout.stop_token_ids", $"{id} is outside the model's vocabulary of {size}");
    }

    /// <summary>Each reward's file is a mistake of its own.</summary>
    private static RewardSet? LoadRewards(CheckedRecipe<TrainRecipe> checking, Action<string> log)
    {
        var sections = checking.Recipe.Rewards;
        var loader = new RewardLoader(checking.Recipe.Seed);
        var loaded = new List<WeightedReward>();
        for (int i = 0; i < sections.Count; i++)
        {
            var section = sections[i];
            if (checking.Try($"rewards.{i}", () => loader.Load(section)) is { } reward)
                loaded.Add(reward);
        }
        bool areGood = loaded.Count == sections.Count;
        return areGood ? checking.Try("rewards", () => new RewardSet(loaded, log)) : null;
    }

    private void CheckPrompts(CheckedRecipe<TrainRecipe> checking)
    {
        string[] lengths = ["rollout.max_new_tokens", "evaluation.max_new_tokens", "model.max_context"];
        if (lengths.Any(checking.IsMisread))
            return;

        int longest = Math.Max(checking.Recipe.Rollout.MaxNewTokens, HeldOut.Count > 0 ? Requests.EvaluationTokens : 0);
        if (checking.Try("model.template", () => Lengths().ToList()) is not { } prompts)
            return;
        PromptLengths = [.. prompts.Take(Problems.Count).Select(p => p.Length)];
        WorkersCheck.CheckRoom(checking, Config, Devices, Math.Min(Context, prompts.Max(p => p.Length) + longest));
        var tooLong = prompts.Where(prompt => prompt.Length + longest > Context).ToList();
        if (tooLong.Count == 0)
            return;

        var (problem, length) = tooLong.MaxBy(prompt => prompt.Length);
        string beginning = problem.Question[..Math.Min(80, problem.Question.Length)];
        string others = tooLong.Count == 1 ? "" : $" It is the longest of {tooLong.Count} that are too long.";
        checking.Add(
            "rollout.max_new_tokens",
            $"{Place(problem)}a prompt of {length} tokens and {longest} new tokens do not fit the context of {Context}: "
                + $"lower rollout.max_new_tokens or leave out long problems.{others} It begins: {beginning}"
        );
    }

    private static string Place(Problem problem) => problem.Origin == "" ? "" : problem.Origin + ": ";

    /// <exception cref="InvalidDataException">The template has no place for a problem.</exception>
    private IEnumerable<(Problem Problem, int Length)> Lengths()
    {
        Problem[] all = [.. Problems, .. HeldOut];
        int[] lengths = new int[all.Length];
        var errors = new ConcurrentDictionary<int, InvalidDataException>();
        Parallel.For(
            0,
            all.Length,
            i =>
            {
                try
                {
                    lengths[i] = PromptLength(all[i]);
                }
                catch (InvalidDataException e)
                {
                    errors[i] = e;
                }
            }
        );
        if (!errors.IsEmpty)
            throw errors.MinBy(e => e.Key).Value;
        return all.Zip(lengths);
    }

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
