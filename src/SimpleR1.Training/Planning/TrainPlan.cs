using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Recipes.Sections;
using SimpleR1.Training.Rollouts;
using SimpleR1.Training.Runs;
using static System.FormattableString;

namespace SimpleR1.Training.Planning;

/// <summary>What a run of reinforcement learning would do and need. Nothing is started, and nothing is written.</summary>
public static class TrainPlan
{
    /// <summary>Checks a recipe and all that it names, as a run would, and describes the run in some lines.</summary>
    /// <param name="overrides">Such as <c>optimizer.learning_rate=1e-6</c>.</param>
    /// <exception cref="RecipeException">It has all mistakes, with their lines.</exception>
    /// <exception cref="FileNotFoundException">There is no such recipe.</exception>
    public static string Describe(string path, IEnumerable<string> overrides, ExperimentOptions options)
    {
        var checking = RecipeFile.Read<TrainRecipe>(path, overrides);
        var input = ExperimentInput.Load(checking, options);
        var recipe = checking.Recipe;
        var layout = new WeightLayout(input.Config);
        var plan = new PlanText();

        string run = Path.Combine(options.RunsFolder, recipe.Name);
        plan.Add("run", $"{run} ({Intent(options.Existing)})");
        plan.Add(
            "model",
            $"{recipe.Model.Path}: {input.Config.Family.Name}, {PlanText.Parameters(layout.ParameterCount)}, "
                + Invariant($"{input.Config.Layers} layers, context {input.Context:N0}")
        );
        AddData(plan, recipe, input);
        AddSteps(plan, recipe, input);
        AddMemory(plan, recipe, input);
        AddWorkers(plan, recipe, input, options);
        return plan.ToString();
    }

    private static string Intent(ExistingRun existing) =>
        existing switch
        {
            ExistingRun.Resume => "resumed from its last checkpoint",
            ExistingRun.Overwrite => "replaces a run of this name, if there is one",
            _ => "new",
        };

    private static void AddData(PlanText plan, TrainRecipe recipe, ExperimentInput input)
    {
        int drawn = recipe.Training.Steps * recipe.Rollout.PromptsPerStep;
        plan.Add(
            "data",
            PlanText.Count(input.Problems.Count, "problem")
                + Invariant($" to train on, each drawn {(double)drawn / input.Problems.Count:F1} times")
                + (input.HeldOut.Count == 0 ? "; none held out" : $"; {input.HeldOut.Count:N0} held out")
        );
        if (DifficultyPool.Create(recipe, input.Solved) is { LeftOut.Count: > 0 } pool)
            plan.Add("left out", $"{PlanText.Count(pool.LeftOut.Count, "problem")}, too easy or too hard as measured");
        var lengths = input.PromptLengths;
        plan.Add(
            "prompts",
            Invariant($"{lengths.Average():F0} tokens on average, {lengths.Max():N0} at most; the first has ")
                + PlanText.Count(lengths[0], "token")
                + ":"
        );
        plan.Add("", input.Template.Render(input.Problems[0].Question));
        plan.Add("gold answer", input.Problems[0].Answer);
        plan.Add("rewards", string.Join(" + ", recipe.Rewards.Select(r => Invariant($"{r.Weight} × {r.Name}"))));
    }

    private static void AddSteps(PlanText plan, TrainRecipe recipe, ExperimentInput input)
    {
        var (rollout, training) = (recipe.Rollout, recipe.Training);
        long samples = (long)rollout.PromptsPerStep * rollout.SamplesPerPrompt;
        double prompt = input.PromptLengths.Average();
        bool shares = training.SharedPrompts ?? input.Devices.Trainer.IsGpu;
        double tokens = (shares ? rollout.PromptsPerStep : samples) * prompt + samples * rollout.MaxNewTokens;
        int updates = recipe.Algorithm.MiniBatches * recipe.Algorithm.Epochs;
        int microBatch = input.Memory.Trainer.TokensPerMicroBatch;
        plan.Add(
            "steps",
            $"{PlanText.Count(training.Steps, "step")} of {rollout.PromptsPerStep} prompts × "
                + $"{rollout.SamplesPerPrompt} samples = {samples:N0}, warm-up {recipe.Optimizer.WarmupIn(training.Steps)}"
        );
        plan.Add(
            "tokens a step",
            Invariant($"sampled {samples * rollout.MaxNewTokens:N0} at most, trained on {tokens:N0} with prompts")
        );
        plan.Add(
            "updates a step",
            $"{PlanText.Count(updates, "update")}, {Math.Ceiling(tokens / microBatch):N0} micro-batches of "
                + $"up to {microBatch:N0} tokens for each pass"
        );

        if (input.HeldOut.Count == 0)
            return;
        int evaluations = 2 + (training.EvaluateEvery > 0 ? (training.Steps - 1) / training.EvaluateEvery : 0);
        long answers = (long)input.HeldOut.Count * recipe.Evaluation.Samples;
        plan.Add(
            "evaluations",
            $"{evaluations} of {PlanText.Count(answers, "answer")}, "
                + $"up to {answers * input.Requests.EvaluationTokens:N0} tokens each"
        );
    }

    private static void AddMemory(PlanText plan, TrainRecipe recipe, ExperimentInput input)
    {
        var training = recipe.Training;
        var memory = input.Memory;
        plan.Add("trainer", memory.Trainer.Describe());
        if (input.Devices.AreColocated)
            plan.Add(
                "shared pool",
                $"{PlanText.Bytes(memory.PoolBytes)} on {input.Devices.Trainer.Name}: the workers' KV cache while they "
                    + "generate, activations while the trainer computes"
            );
        int interim = training.CheckpointEvery > 0 ? (training.Steps - 1) / training.CheckpointEvery : 0;
        int kept = Math.Min(training.KeepCheckpoints, interim + 1);
        long checkpoint = memory.Trainer.Checkpoint;
        plan.Add(
            "checkpoints",
            $"{PlanText.Count(interim + 1, "checkpoint")} of {PlanText.Bytes(checkpoint)}, the newest {kept} kept: "
                + $"{PlanText.Bytes(checkpoint * (kept + 1.0))} of disk while one is written"
        );
    }

    private static void AddWorkers(PlanText plan, TrainRecipe recipe, ExperimentInput input, ExperimentOptions options)
    {
        var workers = recipe.Workers;
        if (workers.Servers.Count > 0)
            plan.Add("workers", $"the servers {string.Join(", ", workers.Servers)}");
        else if (options.Join is { } head)
            plan.Add("workers", $"those of the head at {head.Join}");
        else
        {
            string[] devices = [.. input.Devices.Workers.Distinct()];
            int count = input.Devices.WorkerCount;
            plan.Add("workers", $"{PlanText.Count(count, "worker")} on {string.Join(", ", devices)}");
            plan.Add("each", EngineText(workers, input, devices.Any(d => d != "cpu")));
        }
    }

    private static string EngineText(WorkersSection workers, ExperimentInput input, bool gpu)
    {
        var engine = workers.ToEngineOptions(input.Context).For(gpu);
        int elementBytes = gpu ? input.Devices.WorkerType.Bytes : ElementType.F32.Bytes;
        long token = WorkersCheck.KvBytesPerToken(input.Config, elementBytes);
        long cacheBytes = engine.KvCacheBytes;
        if (cacheBytes == 0 && input.Devices.AreColocated)
            cacheBytes = input.Memory.PoolBytes / input.Devices.WorkersOnTrainer;
        string cache =
            cacheBytes == 0
                ? "the KV cache what is left of the GPU"
                : $"{PlanText.Bytes(cacheBytes)} for the KV cache of {cacheBytes / token:N0} tokens";
        long copies = workers.Overlap ? 2 : 1;
        bool sharesWeights = input.Devices.AreColocated && input.Devices.WorkerType == input.Memory.Trainer.Device.Type;
        string weights = sharesWeights
            ? "the trainer's weights"
            : $"{PlanText.Bytes((double)new WeightLayout(input.Config).Length * elementBytes * copies)} for weights";
        return $"{weights}, {cache}; "
            + $"{engine.MaxSequences:N0} sequences and {engine.MaxBatchedTokens:N0} tokens at once";
    }
}
