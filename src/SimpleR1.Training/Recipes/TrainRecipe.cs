using System.ComponentModel;
using SimpleR1.Cluster;
using SimpleR1.Training.Algorithms;
using SimpleR1.Training.Rewards;

namespace SimpleR1.Training.Recipes;

/// <summary>One run of reinforcement learning with verifiable rewards.</summary>
public sealed record TrainRecipe : IRecipeSection
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

    [Description("AdamW and its learning-rate schedule.")]
    public OptimizerSection Optimizer { get; init; } = new();

    [Description("Steps, micro-batches, checkpoints, logging.")]
    public TrainingSection Training { get; init; } = new();

    [Description("The inference worker processes, or a list of the servers to use instead.")]
    public WorkersSection Workers { get; init; } = new();

    [Description("How held-out problems are answered.")]
    public EvaluationSection Evaluation { get; init; } = new();

    public IEnumerable<Conflict> Validate()
    {
        if (string.IsNullOrWhiteSpace(Name))
            yield return new("must not be empty", "name");
        if (Name.IndexOfAny(['/', '\\', '\0']) >= 0 || Name is "." or "..")
            yield return new("must be a plain folder name, without '/'", "name");
        if (Rewards.Count == 0)
            yield return new("at least one reward is needed, such as [{name: accuracy}]", "rewards");
        for (int i = 1; i < Rewards.Count; i++)
            if (Rewards.Take(i).Any(r => r.Name == Rewards[i].Name))
                yield return new($"'{Rewards[i].Name}' is given twice; add the weights up", $"rewards.{i}.name");
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
        if (Optimizer.WarmupSteps >= Training.Steps)
            yield return new(
                $"warm-up of {Optimizer.WarmupSteps} steps never ends in {Training.Steps} steps",
                "optimizer.warmup_steps",
                "training.steps"
            );
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
        if (Algorithm.MiniBatches > Rollout.PromptsPerStep * Rollout.SamplesPerPrompt)
            yield return new(
                $"{Algorithm.MiniBatches} mini-batches of {Rollout.PromptsPerStep * Rollout.SamplesPerPrompt} samples leave some empty",
                "algorithm.mini_batches",
                "rollout.prompts_per_step",
                "rollout.samples_per_prompt"
            );
        string? filter =
            Rollout.TopP < 1 ? "top_p"
            : Rollout.TopK > 0 ? "top_k"
            : Rollout.MinP > 0 ? "min_p"
            : null;
        if (filter is not null && Algorithm.MiniBatches * Algorithm.Epochs > 1)
            yield return new(
                "samples are drawn from a filtered distribution that the trainer does not have: with several optimizer updates a step the ratios would be wrong. "
                    + "Sample without the filter, or make one update a step",
                "rollout." + filter,
                "algorithm.mini_batches",
                "algorithm.epochs"
            );
        if (Rollout.Carry > 0 && Workers.Servers.Count > 0)
            yield return new(
                "rollouts can't be broken off on servers of vLLM's API; leave it out, or use workers of a cluster",
                "rollout.carry",
                "workers.servers"
            );
        if (Training.TokensPerMicroBatch < Model.MaxContext)
            yield return new(
                $"a micro-batch of {Training.TokensPerMicroBatch} tokens can't hold one sequence of {Model.MaxContext}",
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

public sealed record ModelSection
{
    [Description("Folder of a Hugging Face checkpoint (config.json, tokenizer.json, *.safetensors).")]
    public required string Path { get; init; }

    [Description("How a question becomes a prompt: a built-in template's name, or text with {question}.")]
    public string Template { get; init; } = "r1-zero";

    [Description("System message, for templates that have one.")]
    public string? System { get; init; }

    [Description("Longest sequence, prompt and completion together, in tokens.")]
    [Limits(AtLeast = 8)]
    public int MaxContext { get; init; } = 2048;
}

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
        "Prompts under way beyond prompts_per_step: a step ends when prompts_per_step groups are complete, and the others go on in the next one, under its weights (partial rollouts; set algorithm.importance_cap). Which ones depends on time, so such a run can't be repeated bit for bit."
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

    [Description("Strings that end a completion; they stay in its text.")]
    public ValueList<string> Stop { get; init; } = [];
}

public sealed record RewardSection : IRecipeSection
{
    [Description("A built-in reward (`format`, `accuracy`, `countdown`), or the method's name in `file`.")]
    public required string Name { get; init; }

    [Description("Factor in the sum; negative for a penalty.")]
    public double Weight { get; init; } = 1;

    [Description("A C# file with a public static method `double Name(RewardInput input)`.")]
    public string? File { get; init; }

    [Description(
        "Whether the reward judges answers: `accuracy` in the metrics counts samples with full marks by all that do, or by all "
            + "rewards when none does. Without it: true for `accuracy` and `countdown`."
    )]
    public bool? JudgesAnswers { get; init; }

    [Description("`accuracy` only: without an answer block or \\boxed{}, take the last number.")]
    public bool AcceptLastNumber { get; init; }

    public IEnumerable<Conflict> Validate()
    {
        if (File is null && !BuiltInRewards.Names.Contains(Name))
            yield return new(
                RecipeNames.Unknown(
                    "built-in reward",
                    Name,
                    BuiltInRewards.Names,
                    "; for a custom reward, give 'file'"
                ),
                "name"
            );
        if (AcceptLastNumber && (File is not null || Name != "accuracy"))
            yield return new("only the accuracy reward has this option", "accept_last_number", "name");
    }
}

public enum LossAverage
{
    Token,
    Sequence,
    ConstantLength,
}

public sealed record AlgorithmSection : IRecipeSection
{
    [Description(AlgorithmRegistry.Description)]
    public string Name { get; init; } = "grpo";

    [Description("Divide a group's advantages by the standard deviation of its rewards (GRPO); false is Dr. GRPO.")]
    public bool NormalizeByStd { get; init; } = true;

    [Description(
        "What the loss is averaged over: all tokens of the step alike, each sequence alike, or tokens over the longest allowed length (Dr. GRPO)."
    )]
    public LossAverage LossAverage { get; init; } = LossAverage.Token;

    [Description("The probability ratio is clipped below at 1 - this.")]
    [Limits(Above = 0)]
    public double ClipLow { get; init; } = 0.2;

    [Description("The probability ratio is clipped above at 1 + this; larger than clip_low explores more (DAPO).")]
    [Limits(Above = 0)]
    public double ClipHigh { get; init; } = 0.2;

    [Description("Weight of the KL divergence (k3) to the frozen first model; 0 needs no reference model.")]
    [Limits(AtLeast = 0)]
    public double KlCoefficient { get; init; }

    [Description("Optimizer updates that a step's samples are split into.")]
    [Limits(AtLeast = 1)]
    public int MiniBatches { get; init; } = 1;

    [Description("Passes over a step's samples.")]
    [Limits(AtLeast = 1)]
    public int Epochs { get; init; } = 1;

    [Description(
        "Truncated importance weights between the trainer's and the engine's log-probs are capped here; 0 turns them off."
    )]
    [Limits(AtLeast = 0)]
    public double ImportanceCap { get; init; } = 2;

    public IEnumerable<Conflict> Validate()
    {
        if (!AlgorithmRegistry.Names.Contains(Name))
            yield return new(RecipeNames.Unknown("algorithm", Name, AlgorithmRegistry.Names), "name");
        if (ClipLow >= 1)
            yield return new(
                $"a ratio is never below 0, so a lower clip at 1 - {ClipLow} does nothing; use a value below 1",
                "clip_low"
            );
        if (ImportanceCap is > 0 and < 1)
            yield return new(
                "a cap below 1 shrinks the weight of samples that agree exactly; use 0 (off) or at least 1",
                "importance_cap"
            );
    }
}

public enum Schedule
{
    Constant,
    Linear,
    Cosine,
}

public sealed record OptimizerSection
{
    [Description("Highest learning rate.")]
    [Limits(AtLeast = 0)]
    public double LearningRate { get; init; } = 1e-6;

    [Description("Decay of the gradient's moving average.")]
    [Limits(AtLeast = 0, Below = 1)]
    public double Beta1 { get; init; } = 0.9;

    [Description("Decay of the squared gradient's moving average.")]
    [Limits(AtLeast = 0, Below = 1)]
    public double Beta2 { get; init; } = 0.95;

    [Description("Added to the denominator of the update.")]
    [Limits(Above = 0)]
    public double Epsilon { get; init; } = 1e-8;

    [Description("Decoupled weight decay.")]
    [Limits(AtLeast = 0)]
    public double WeightDecay { get; init; }

    [Description("Gradients are scaled down to this norm; 0 never scales.")]
    [Limits(AtLeast = 0)]
    public double MaxGradientNorm { get; init; } = 1;

    [Description("Shape of the learning rate after the warm-up.")]
    public Schedule Schedule { get; init; } = Schedule.Constant;

    [Description("Steps in which the learning rate rises linearly from 0.")]
    [Limits(AtLeast = 0)]
    public int WarmupSteps { get; init; }

    [Description("Learning rate of the last step, as a fraction of the highest.")]
    [Limits(AtLeast = 0, AtMost = 1)]
    public double FinalLearningRateRatio { get; init; } = 0.1;
}

public sealed record TrainingSection
{
    [Description("Steps of rollouts, update and weight sync.")]
    [Limits(AtLeast = 1)]
    public int Steps { get; init; } = 100;

    [Description("Tokens computed at once; sequences are packed, so none is padding.")]
    [Limits(AtLeast = 1)]
    public int TokensPerMicroBatch { get; init; } = 8192;

    [Description("Compute layers again in the backward pass instead of keeping their activations.")]
    public bool GradientCheckpointing { get; init; }

    [Description("Steps between checkpoints; 0 writes only the last.")]
    [Limits(AtLeast = 0)]
    public int CheckpointEvery { get; init; } = 50;

    [Description("Newest checkpoints kept.")]
    [Limits(AtLeast = 1)]
    public int KeepCheckpoints { get; init; } = 2;

    [Description("Steps between evaluations; 0 evaluates only before and after, where there are problems for it.")]
    [Limits(AtLeast = 0)]
    public int EvaluateEvery { get; init; }

    [Description("Rollouts written to samples.jsonl in each step.")]
    [Limits(AtLeast = 0)]
    public int SamplesLogged { get; init; } = 4;
}

[BareList(nameof(Servers))]
public sealed record WorkersSection : IRecipeSection
{
    [Description("Worker processes.")]
    [Limits(AtLeast = 1)]
    public int Count { get; init; } = 1;

    [Description("What they compute on: cpu, cuda, cuda:N, several with commas, or all for one GPU after another.")]
    public string Device { get; init; } = "cpu";

    [Description(
        "Element type of weights and KV cache of those on a GPU, and of what is sent from send_device to servers: bf16, f16 or f32."
    )]
    public string Type { get; init; } = "bf16";

    [Description(
        "The trainer's GPU that NCCL sends from, cuda or cuda:N, another than the workers'; several, with commas, send a slice each; empty sends by shared memory or TCP. For servers on GPUs it is one; vLLM's own need it."
    )]
    public string SendDevice { get; init; } = "";

    [Description("CPU threads of each; 0 shares the machine's cores among them.")]
    [Limits(AtLeast = 0)]
    public int Threads { get; init; }

    [Description("KV cache of each worker, in MiB; 0 takes what a GPU has left.")]
    [Limits(AtLeast = 0)]
    public int KvCacheMib { get; init; } = 512;

    [Description("Tokens that an engine computes in one step, prompts in chunks included.")]
    [Limits(AtLeast = 1)]
    public int MaxBatchedTokens { get; init; } = 2048;

    [Description("Sequences that run at once in an engine.")]
    [Limits(AtLeast = 1)]
    public int MaxSequences { get; init; } = 256;

    [Description("Tokens in one block of the KV cache.")]
    [Limits(AtLeast = 1)]
    public int BlockSize { get; init; } = 16;

    [Description("How weights travel; auto takes NCCL between GPUs, shared memory on one machine, else TCP.")]
    public WeightTransportChoice Transport { get; init; } = WeightTransportChoice.Auto;

    [Description(
        "What becomes of sequences that are being generated when new weights come: they keep their keys and values, have them recomputed, or are finished first (drain)."
    )]
    public OnUpdate OnUpdate { get; init; } = OnUpdate.Keep;

    [Description("Workers receive into a second buffer while they go on decoding.")]
    public bool Overlap { get; init; }

    [Description("Over TCP, send only the elements that have changed, where that is less.")]
    public bool Delta { get; init; }

    [Description("Port of the head on this machine; 0 takes a free one.")]
    [Limits(AtLeast = 0, AtMost = 65535)]
    public int Port { get; init; }

    [Description(
        "Servers that speak vLLM's API and weight transfer, as vllm://HOST:PORT, instead of worker processes; their API key is in SIMPLE_R1_API_KEY. Where the trainer has a cluster key (--key), each must have it too and PORT is its admin port; http:// or https://HOST:PORT is one without. See docs/vllm.md."
    )]
    public ValueList<string> Servers { get; init; } = [];

    public IEnumerable<Conflict> Validate()
    {
        if (Type is not ("bf16" or "f16" or "f32"))
            yield return new($"expected bf16, f16 or f32, found '{Type}'", "type");
        if (
            Servers.Count > 0
            && SendDevice is not ("" or "cuda")
            && !(
                SendDevice.StartsWith("cuda:", StringComparison.Ordinal)
                && int.TryParse(SendDevice.AsSpan(5), out int gpu)
                && gpu >= 0
            )
        )
            yield return new(
                $"expected cuda or cuda:N, found '{SendDevice}': servers are sent to from one GPU; leave it out to send from the CPU's memory",
                "send_device"
            );
        for (int i = 0; i < Servers.Count; i++)
            if (
                !Uri.TryCreate(Servers[i], UriKind.Absolute, out var address)
                || address.Scheme is not ("vllm" or "http" or "https")
                || address.Port <= 0
            )
                yield return new($"expected vllm://HOST:PORT, found '{Servers[i]}'", $"servers.{i}");
    }
}

public sealed record EvaluationSection
{
    [Description("Completions of each problem; accuracy is their mean.")]
    [Limits(AtLeast = 1)]
    public int Samples { get; init; } = 1;

    [Description("0 is greedy.")]
    [Limits(AtLeast = 0, AtMost = 10)]
    public double Temperature { get; init; }

    [Description("Longest completion, in tokens; without it that of rollout.")]
    [Limits(AtLeast = 1)]
    public int? MaxNewTokens { get; init; }
}
