using System.ComponentModel;
using SimpleR1.Training.Recipes.Sections;
using SimpleR1.Training.Runs.Evaluations;

namespace SimpleR1.Training.Recipes;

/// <summary>One run of reinforcement learning with verifiable rewards.</summary>
public sealed record TrainRecipe : RecipeDocument, IRecipeSection
{
    [Description("The run's name; its folder is runs/NAME.")]
    public required string Name { get; init; }

    [Description("Everything random in the run follows from it.")]
    public ulong Seed { get; init; } = 1;

    [Description("The model to train and how it is asked.")]
    public required ModelSection Model { get; init; }

    [Description("Problems to train on and to be judged by.")]
    public required DataSection Data { get; init; }

    [Description("How completions are sampled.")]
    public RolloutSection Rollout { get; init; } = new();

    [Description("What a completion is paid for; the weighted sum is its reward.")]
    public required ValueList<RewardSection> Rewards { get; init; }

    [Description("How rewards become a loss (GRPO and its corrections).")]
    public AlgorithmSection Algorithm { get; init; } = new();

    [Description("AdamW, as PyTorch computes it, and its learning-rate schedule.")]
    public OptimizerSection Optimizer { get; init; } = new();

    [Description("Steps, micro-batches, checkpoints, logging.")]
    public TrainingSection Training { get; init; } = new();

    [Description("Which checkpoint is kept for good.")]
    public CheckpointSection Checkpoint { get; init; } = new();

    [Description("The inference worker processes, or a list of the servers to use instead.")]
    public WorkersSection Workers { get; init; } = new();

    [Description("How held-out problems are answered.")]
    public EvaluationSection Evaluation { get; init; } = new();

    public IEnumerable<Conflict> Validate() =>
        [.. NameConflicts(), .. RewardConflicts(), .. LengthConflicts(), .. UpdateConflicts(), .. RunConflicts()];

    private IEnumerable<Conflict> NameConflicts()
    {
        if (string.IsNullOrWhiteSpace(Name))
            yield return new("must not be empty", "name");
        if (Name.IndexOfAny(['/', '\\', '\0']) >= 0 || Name is "." or "..")
            yield return new("must be a plain folder name, without '/'", "name");
    }

    private IEnumerable<Conflict> RewardConflicts()
    {
        if (Rewards.Count == 0)
            yield return new("at least one reward is needed, such as [{name: accuracy}]", "rewards");
        for (int i = 1; i < Rewards.Count; i++)
        {
            if (Rewards.Take(i).Any(r => r.Name == Rewards[i].Name))
                yield return new($"'{Rewards[i].Name}' is given twice; add the weights up", $"rewards.{i}.name");
        }
        for (int i = 0; i < Rewards.Count; i++)
        {
            if (Rewards[i].HardLimit > Rollout.MaxNewTokens)
                yield return new(
                    $"no completion reaches {Rewards[i].HardLimit} tokens: {Rollout.MaxNewTokens} is the longest",
                    $"rewards.{i}.hard_limit",
                    "rollout.max_new_tokens"
                );
        }
    }

    private IEnumerable<Conflict> LengthConflicts()
    {
        if (Rollout.MaxNewTokens >= Model.MaxContext)
            yield return new(
                $"{Rollout.MaxNewTokens} new tokens leave no room for a prompt in a context of {Model.MaxContext}",
                "rollout.max_new_tokens",
                "model.max_context"
            );
        if (Evaluation.MaxNewTokens is { } evaluated && evaluated >= Model.MaxContext)
            yield return new(
                $"{evaluated} new tokens leave no room for a prompt in a context of {Model.MaxContext}",
                "evaluation.max_new_tokens",
                "model.max_context"
            );
    }

    private IEnumerable<Conflict> UpdateConflicts()
    {
        int samples = Rollout.PromptsPerStep * Rollout.SamplesPerPrompt;
        if (Rollout.SamplesPerPrompt < 2)
            yield return new(
                "a group needs at least 2 samples: an advantage compares a sample with the others of its prompt",
                "rollout.samples_per_prompt"
            );
        if (Rollout.Temperature == 0)
            yield return new(
                "greedy samples of one prompt are all the same, so their advantages are 0; use a temperature above 0",
                "rollout.temperature"
            );
        if (Algorithm.MiniBatches > samples)
            yield return new(
                $"{Algorithm.MiniBatches} mini-batches of {samples} samples leave some empty",
                "algorithm.mini_batches",
                "rollout.prompts_per_step",
                "rollout.samples_per_prompt"
            );
    }

    private IEnumerable<Conflict> RunConflicts()
    {
        string[] metrics = [.. EvaluationScores.Names(Evaluation, Data.Evaluation)];
        if (Checkpoint.KeepBest is { } best && !metrics.Contains(best))
            yield return new(
                $"evaluations have no metric '{best}'; there are {string.Join(", ", metrics)}",
                "checkpoint.keep_best",
                "evaluation.samples"
            );
        if (Checkpoint.KeepBest is not null && Data.Evaluation is null)
            yield return new(
                "there are no held-out problems that a checkpoint could be the best on; give data.evaluation",
                "checkpoint.keep_best",
                "data.evaluation"
            );
        if (Rollout.Carry > 0 && Workers.Servers.Count > 0)
            yield return new(
                "servers of vLLM's API can't abort rollouts and continue them; leave it out, or use workers of a cluster",
                "rollout.carry",
                "workers.servers"
            );
        if (Training.TokensPerMicroBatch is { } tokens && tokens < Model.MaxContext)
            yield return new(
                $"a micro-batch of {tokens} tokens can't hold one sequence of {Model.MaxContext}",
                "training.tokens_per_micro_batch",
                "model.max_context"
            );
        if (Training.EvaluateEvery > 0 && Data.Evaluation is null)
            yield return new(
                "there are no held-out problems to evaluate on; give data.evaluation or set it to 0",
                "training.evaluate_every",
                "data.evaluation"
            );
    }
}

/// <summary>The <c>model</c> section.</summary>
public sealed record ModelSection
{
    [Description("Folder of a Hugging Face checkpoint (config.json, tokenizer.json, *.safetensors).")]
    public required string Path { get; init; }

    [Description(
        "How a question becomes a prompt: chat (the model's own chat template), r1-zero, r1-zero-one-shot, chatml, "
            + "plain, or text with {question}."
    )]
    public string Template { get; init; } = "r1-zero";

    [Description("System message of conversations that begin with none: for chat, chatml and text with {system}.")]
    public string? System { get; init; }

    [Description("Variables of the templates chat and chatml, such as {enable_thinking: false}.")]
    public TemplateOptions TemplateOptions { get; init; } = new();

    [Description("Longest sequence, prompt and completion together, in tokens.")]
    [Limits(AtLeast = 8)]
    public int MaxContext { get; init; } = 2048;
}
