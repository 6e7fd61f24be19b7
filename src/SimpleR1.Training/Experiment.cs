using System.Diagnostics;
using SimpleR1.Cluster;
using SimpleR1.Cluster.Membership;
using SimpleR1.Cluster.Processes;
using SimpleR1.Cluster.Trainer;
using SimpleR1.Cluster.Worker;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Models.Prompts;
using SimpleR1.Models.Tokenization;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using SimpleR1.Training.Algorithms;
using SimpleR1.Training.Data;
using SimpleR1.Training.Policy;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Rewards;
using SimpleR1.Training.Rollouts;
using SimpleR1.Training.Runs;
using SimpleR1.Vllm;
using SimpleR1.WeightSync;
using SimpleR1.WeightSync.Security;
using SimpleR1.WeightSync.SharedMemory;

namespace SimpleR1.Training;

/// <summary>
/// Everything a training loop works with: problems, workers, rewards, the policy, and the run's folder. Its methods are the words that
/// <see cref="R1Zero"/> is written in; a loop of one's own can use the same ones in another order.
/// </summary>
public sealed class Experiment : IAsyncDisposable
{
    private readonly TensorThread tensors = new("trainer");
    private readonly Stopwatch clock = Stopwatch.StartNew();
    private readonly List<CarriedPrompt> carried = []; // from the last step to the next
    private readonly Dictionary<string, CarriedPrompt> given = []; // by request, those that were given out and not collected yet
    private readonly Action<StepReport> onStep;
    private readonly Action<Evaluation> onEvaluation;
    private readonly Action<string> say;
    private double stepStart,
        generationSeconds,
        firstStepStart = -1;
    private int firstStep;
    private ulong startHash;
    private RunState finished = null!; // after the last step that was done wholly
    private TrainerCluster? cluster;
    private VllmWorkers? servers; // instead of a cluster
    private RunLog? log;
    private IDisposable? runLock;

    private Experiment(TrainRecipe recipe, RunFolder run, ExperimentEvents events)
    {
        (Recipe, Run) = (recipe, run);
        (onStep, onEvaluation, say) = (events.Step, events.Evaluation, events.Say);
    }

    public TrainRecipe Recipe { get; }
    public RunFolder Run { get; }
    public required ModelConfig Config { get; init; }
    public required Tokenizer Tokenizer { get; init; }
    public required PromptTemplate Template { get; init; }
    public required IReadOnlyList<Problem> Problems { get; init; }
    public required IReadOnlyList<Problem> HeldOut { get; init; }
    public required DataOrder Order { get; init; }
    public required RewardSet Rewards { get; init; }

    /// <summary>The recipe's; set it before a step to train with another.</summary>
    public Algorithm Algorithm
    {
        get => Trainer.Algorithm;
        set => Trainer.Algorithm = value;
    }
    public PolicyModel Policy { get; private set; } = null!;
    public PolicyGradient Trainer { get; private set; } = null!;
    public IRolloutWorkers Workers => servers as IRolloutWorkers ?? cluster!.Workers;

    /// <summary>Steps finished. The weights after step n have version n.</summary>
    public int Step { get; private set; }

    /// <summary>Longest prompt and completion together, in tokens.</summary>
    private int Context => Math.Min(Config.MaxPositions, Recipe.Model.MaxContext);
    private int EvaluationTokens => Recipe.Evaluation.MaxNewTokens ?? Recipe.Rollout.MaxNewTokens;

    /// <summary>Loads everything, resumes where asked to, and starts the workers. Errors in files come before anything slow.</summary>
    public static async Task<Experiment> StartAsync(
        TrainRecipe recipe,
        ExperimentOptions options,
        CancellationToken stop
    )
    {
        var run = RunFolder.Find(options.RunsFolder, recipe.Name, options.Existing);
        var config = ModelConfigFile.Load(recipe.Model.Path);
        var tokenizer = Tokenizer.Load(recipe.Model.Path);
        tokenizer.CheckFits(config);
        var problems = Dataset.Load(recipe.Data.Train);
        var heldOut = recipe.Data.Evaluation is { } evaluation ? Dataset.Load(evaluation) : [];
        var known = heldOut.Select(p => p.Question).ToHashSet();
        Problem[] training = [.. problems.Where(p => !known.Contains(p.Question))];
        if (training.Length == 0)
            throw new InvalidDataException(
                "every training problem is also held out for evaluation; nothing is left to train on"
            );
        var e = new Experiment(recipe, run, options.Events)
        {
            Config = config,
            Tokenizer = tokenizer,
            Template = PromptTemplate.Create(recipe.Model.Template, recipe.Model.System),
            Problems = training,
            HeldOut = heldOut,
            Order = new(training.Length, recipe.Seed),
            Rewards = RewardSet.Load(recipe.Rewards),
        };
        try
        {
            if (training.Length < problems.Count)
                e.say(
                    $"{problems.Count - training.Length} training problems are held out for evaluation and left out of training"
                );
            e.CheckPrompts();
            await e.tensors.RunAsync(e.LoadPolicy);
            e.runLock = run.Lock();
            RunFolder.Open(options.RunsFolder, recipe.Name, options.Existing); // the first trace on the disk, after all that may be wrong with the input
            if (options.Existing == ExistingRun.Resume)
                await e.tensors.RunAsync(e.Resume);
            e.log = new(run, options.Existing == ExistingRun.Resume ? e.Step : null);
            if (recipe.Workers.Servers.Count > 0)
                e.servers = await e.StartServersAsync(options.ServerKey, stop);
            else
                e.cluster = await e.StartClusterAsync(options.Join, stop);
            e.Run.WriteRecipe(recipe);
            return e;
        }
        catch
        {
            await e.DisposeAsync();
            throw;
        }
    }

    /// <summary>
    /// The next problems in the seed's order, as requests of token ids, behind those that the last step carried over. Request ids name step and problem.
    /// </summary>
    public IReadOnlyList<(Problem Problem, GenerationRequest Request)> NextPrompts()
    {
        var prompts = carried.ToList();
        carried.Clear();
        for (int i = 0; prompts.Count < Recipe.Rollout.PromptsPerStep + Recipe.Rollout.Carry; i++)
        {
            long position = Order.Position;
            prompts.Add(Fresh(position, Order.Next(), i));
        }
        foreach (var prompt in prompts)
            given[prompt.Request.Id] = prompt;
        return [.. prompts.Select(p => (p.Problem, p.Request))];
    }

    private CarriedPrompt Fresh(long position, int problem, int place)
    {
        var r = Recipe.Rollout;
        return new(
            position,
            Problems[problem],
            Request(
                $"step-{Step}-prompt-{place}",
                Problems[problem],
                Seed(Step, place),
                r.SamplesPerPrompt,
                r.Temperature,
                r.MaxNewTokens
            ),
            []
        );
    }

    /// <summary>
    /// Has the workers complete the prompts and scores each completion as it arrives. Ordered by prompt and sample, whatever arrived first.
    /// With <c>rollout.carry</c> it ends when enough groups are complete, and keeps the rest for the next step.
    /// </summary>
    public async Task<IReadOnlyList<Rollout>> CollectAsync(
        IReadOnlyList<(Problem Problem, GenerationRequest Request)> prompts,
        CancellationToken stop = default
    )
    {
        CarriedPrompt[] all =
        [
            .. prompts.Select(p =>
                given.Remove(p.Request.Id, out var known) ? known : new(0, p.Problem, p.Request, [])
            ),
        ];
        var (rollouts, unfinished) = await CollectAsync(
            all,
            Recipe.Rollout.Carry > 0 ? Recipe.Rollout.PromptsPerStep : all.Length,
            stop
        );
        carried.AddRange(unfinished);
        return rollouts;
    }

    /// <param name="wanted">Groups; the rest is broken off when they are complete.</param>
    private async Task<(IReadOnlyList<Rollout> Rollouts, IReadOnlyList<CarriedPrompt> Unfinished)> CollectAsync(
        IReadOnlyList<CarriedPrompt> prompts,
        int wanted,
        CancellationToken stop
    )
    {
        double start = clock.Elapsed.TotalSeconds;
        var groups = prompts
            .Select(
                (p, i) =>
                    (
                        Prompt: p,
                        Finished: p.Finished.Select(r => r with { Group = i }).ToList(),
                        Parts: new List<PartialSample>()
                    )
            )
            .ToArray();
        var byId = groups.Select((g, i) => (g.Prompt.Request.Id, i)).ToDictionary(x => x.Id, x => x.i);
        GenerationRequest[] requests = [.. prompts.Select(p => p.Request).Where(r => r.Count > 0)];
        int complete = prompts.Count - requests.Length;
        using var enough = new CancellationTokenSource();
        await foreach (
            var completion in wanted < prompts.Count
                ? cluster!.Workers.GenerateAsync(requests, null, enough.Token, stop)
                : Workers.GenerateAsync(requests, stop)
        )
        {
            int group = byId[completion.RequestId];
            var (prompt, finished, parts) = groups[group];
            if (completion.FinishReason == FinishReason.Aborted)
            {
                parts.Add(
                    new(completion.SampleIndex)
                    {
                        Tokens = completion.Tokens,
                        LogProbs = completion.LogProbs,
                        WeightVersions = completion.WeightVersions,
                    }
                );
                continue;
            }
            var score = Rewards.Score(
                new(prompt.Problem, completion.Text, completion.FinishReason == FinishReason.Length)
            );
            finished.Add(
                new()
                {
                    Group = group,
                    Sample = completion.SampleIndex,
                    Question = prompt.Problem.Question,
                    Gold = prompt.Problem.Answer,
                    Text = completion.Text,
                    Reward = score.Total,
                    Rewards = score.ByName,
                    FinishReason = completion.FinishReason,
                    PromptTokens = prompt.Request.PromptTokens,
                    Tokens = completion.Tokens,
                    LogProbs = completion.LogProbs,
                    WeightVersions = completion.WeightVersions,
                }
            );
            if (finished.Count == prompt.Request.Sampling.Samples && ++complete == wanted && wanted < prompts.Count)
                enough.Cancel();
        }
        generationSeconds = clock.Elapsed.TotalSeconds - start;
        return (
            [.. groups.Where(g => g.Parts.Count == 0).SelectMany(g => g.Finished.OrderBy(r => r.Sample))],
            [
                .. groups
                    .Where(g => g.Parts.Count > 0)
                    .Select(g =>
                        g.Prompt with
                        {
                            Request = g.Prompt.Request with { PartialSamples = [.. g.Parts.OrderBy(p => p.Index)] },
                            Finished = g.Finished,
                        }
                    ),
            ]
        );
    }

    /// <summary>Rewards → advantages → loss → gradient → AdamW; one entry per optimizer step.</summary>
    public Task<IReadOnlyList<UpdateStatistics>> UpdateAsync(IReadOnlyList<Rollout> rollouts) =>
        tensors.RunAsync(() =>
        {
            var updates = Trainer.Update(
                rollouts,
                Step,
                Optimizer.LearningRate(Recipe.Optimizer, Step, Recipe.Training.Steps)
            );
            Policy.Weights.Version = Step + 1;
            return updates;
        });

    /// <summary>Sends the policy's weights into every worker's live weights and has each prove by its hash that it holds them.</summary>
    public Task<SyncReport> PushWeightsAsync() =>
        Workers.PushWeightsAsync(Policy.Weights, Policy.Weights.Version, CancellationToken.None);

    /// <summary>Answers the held-out problems, unless that was done after this step before the run was resumed. Null where the recipe has none, or when stopped.</summary>
    public async Task<Evaluation?> EvaluateAsync(CancellationToken stop)
    {
        if (Evaluated(Step) is { } known)
            return known;
        if (HeldOut.Count == 0 || stop.IsCancellationRequested)
            return null;
        double start = clock.Elapsed.TotalSeconds;
        var prompts = HeldOut
            .Select(
                (problem, i) =>
                    new CarriedPrompt(
                        i,
                        problem,
                        Request(
                            $"evaluation-{Step}-{i}",
                            problem,
                            Seed(-1, i),
                            Recipe.Evaluation.Samples,
                            Recipe.Evaluation.Temperature,
                            EvaluationTokens
                        ),
                        []
                    )
            )
            .ToArray();
        Evaluation evaluation;
        try
        {
            evaluation = new(
                Step,
                (await CollectAsync(prompts, prompts.Length, stop)).Rollouts,
                clock.Elapsed.TotalSeconds - start
            );
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested)
        {
            return null;
        }
        log!.Write(evaluation);
        onEvaluation(evaluation);
        return evaluation;
    }

    public void BeginStep()
    {
        stepStart = clock.Elapsed.TotalSeconds;
        if (firstStepStart < 0)
            (firstStepStart, firstStep) = (stepStart, Step);
    }

    /// <summary>Counts the step and reports it: console, metrics.jsonl, TensorBoard, samples.jsonl.</summary>
    public void EndStep(IReadOnlyList<Rollout> rollouts, IReadOnlyList<UpdateStatistics> updates, SyncReport sync)
    {
        Step++;
        double now = clock.Elapsed.TotalSeconds;
        var details = new SortedDictionary<string, double>(StringComparer.Ordinal);
        foreach (string name in rollouts[0].Rewards.Keys)
            details["reward_" + name] = rollouts.Average(r => r.Rewards[name]);
        if (Recipe.Rollout.Carry > 0)
            details["tokens_of_older_weights"] =
                rollouts.Sum(r => (double)r.WeightVersions.Count(v => v < Step - 1))
                / rollouts.Sum(r => r.Tokens.Length);
        foreach (string name in updates[0].Report.Keys)
            details[name] = updates.Average(u => u.Report[name]);
        var report = new StepReport
        {
            Step = Step,
            Steps = Recipe.Training.Steps,
            Reward = rollouts.Average(r => r.Reward),
            Accuracy = rollouts.Average(r => r.Correct ? 1.0 : 0),
            Length = rollouts.Average(r => r.Tokens.Length),
            Truncated = rollouts.Average(r => r.FinishReason == FinishReason.Length ? 1.0 : 0),
            UniformGroups = rollouts
                .GroupBy(r => r.Group)
                .Average(g => g.All(r => r.Reward == g.First().Reward) ? 1.0 : 0),
            Loss = updates.Average(u => u.Loss),
            Entropy = updates.Average(u => u.Entropy),
            GradientNorm = updates.Average(u => u.GradientNorm),
            LearningRate = updates[^1].LearningRate,
            Details = details,
            GenerationSeconds = generationSeconds,
            GeneratedTokens = rollouts.Sum(r => (long)r.Tokens.Length),
            TrainingSeconds = updates.Sum(u => u.Seconds),
            TrainedTokens = updates.Sum(u => u.Tokens),
            SyncSeconds = sync.TotalSeconds,
            StepSeconds = now - stepStart,
            EtaSeconds = (now - firstStepStart) / (Step - firstStep) * (Recipe.Training.Steps - Step),
        };
        finished = State();
        log!.Write(report, rollouts.Take(Recipe.Training.SamplesLogged));
        onStep(report);
    }

    /// <summary>Whether something that happens every so many steps, and before the first and after the last, happens now.</summary>
    public bool Due(int every) => Step == 0 || Step >= Recipe.Training.Steps || every > 0 && Step % every == 0;

    /// <summary>Writes a checkpoint that <c>--resume</c> continues from bit for bit; older ones beyond the recipe's number go.</summary>
    public Task SaveAsync() =>
        tensors.RunAsync(() =>
            Checkpoints.Save(Run, Policy, finished, Recipe.Model.Path, Recipe.Training.KeepCheckpoints)
        );

    /// <summary>After a failure: saves what the last whole step left, where the weights are still that.</summary>
    /// <returns>The checkpoint; null where the failed step has changed the weights already, or they are not finite.</returns>
    public async Task<string?> RescueAsync()
    {
        if (
            Policy.Optimizer.Steps != finished.OptimizerSteps
            || !await tensors.RunAsync(() => Policy.Weights.AreFinite())
        )
            return null;
        await SaveAsync();
        return Checkpoints.Folder(Run, finished.Step);
    }

    /// <summary>The last checkpoint, the plot, and what there is to say at the end.</summary>
    public async Task<RunOutcome> FinishAsync()
    {
        await SaveAsync();
        var (before, after) = (Evaluated(0), Evaluated(Step));
        var memory = new List<(string, long)> { ("trainer", ProcessMemory.Peak(Environment.ProcessId)) };
        if (cluster is not null)
            memory.AddRange(cluster.Workers.Status().Select(w => (w.Name, w.PeakMemoryBytes)));
        log!.Dispose();
        log = null;
        if (Step > 0)
            Plot.Write(Run.Path, Run.Plot);
        bool interrupted = Step < Recipe.Training.Steps || HeldOut.Count > 0 && after is null;
        return new(before, after, Step, interrupted, clock.Elapsed.TotalSeconds, Files(), memory);
    }

    private Evaluation? Evaluated(int step) =>
        HeldOut.Count == 0 ? null : Evaluation.Read(Run, step, HeldOut.Count * Recipe.Evaluation.Samples);

    private RunState State() =>
        new(Step, Policy.Optimizer.Steps, Order.Position, Recipe.Seed, startHash)
        {
            Carried = [.. carried.Select(p => p.Position)],
        };

    private string[] Files() =>
        [
            .. new[]
            {
                Run.Recipe,
                Run.Metrics,
                Run.Samples,
                Run.Evaluations,
                Run.Plot,
                Run.Events,
                Checkpoints.Folder(Run, Step),
                Path.Combine(Run.Path, "logs"),
            }
                .Where(Path.Exists)
                .Select(p =>
                    Path.GetRelativePath(Environment.CurrentDirectory, p) is var near
                    && near.StartsWith("..", StringComparison.Ordinal)
                        ? p
                        : near
                ),
        ];

    private GenerationRequest Request(
        string id,
        Problem problem,
        ulong seed,
        int samples,
        double temperature,
        int maxTokens
    )
    {
        var r = Recipe.Rollout;
        return new(
            id,
            Tokenizer.EncodePrompt(Template.Render(problem.Question)),
            new SamplingParameters
            {
                Samples = samples,
                Temperature = temperature,
                TopP = temperature == 0 ? 1 : r.TopP,
                TopK = temperature == 0 ? 0 : r.TopK,
                MinP = temperature == 0 ? 0 : r.MinP,
                Seed = seed,
                MaxTokens = maxTokens,
                StopStrings = r.Stop,
                IncludeStopString = true,
            }
        );
    }

    /// <summary>A request's seed follows from the run's seed, the step and the place in the step: a resumed run draws the same samples.</summary>
    private ulong Seed(int step, int place) =>
        SplitMix64.Mix(SplitMix64.Mix(Recipe.Seed ^ 0x5EED) + (ulong)(step + 2) * 0x1_0000_0001 + (ulong)place);

    private void CheckPrompts()
    {
        int longest = Math.Max(Recipe.Rollout.MaxNewTokens, HeldOut.Count > 0 ? EvaluationTokens : 0);
        foreach (var problem in Problems.Concat(HeldOut))
        {
            int length = Tokenizer.EncodePrompt(Template.Render(problem.Question)).Length;
            if (length + longest > Context)
                throw new InvalidDataException(
                    $"a prompt of {length} tokens and {longest} new tokens do not fit the context of {Context}: lower rollout.max_new_tokens or leave out long problems. It begins: {problem.Question[..Math.Min(80, problem.Question.Length)]}"
                );
        }
    }

    private void LoadPolicy()
    {
        CpuParallel.Threads = Environment.ProcessorCount;
        var a = Recipe.Algorithm;
        var weights = SharedWeightMemory.Allocate(new WeightLayout(Config));
        Checkpoint.ReadInto(Recipe.Model.Path, weights);
        startHash = WeightHash.Compute(weights.Pointer, weights.ByteLength);
        Decoder? reference = null;
        if (a.KlCoefficient > 0)
        {
            var frozen = new FlatWeights(weights.Layout, TorchSharp.torch.ScalarType.Float32, TorchSharp.torch.CPU);
            Checkpoint.ReadInto(Recipe.Model.Path, frozen);
            reference = new(frozen);
        }
        Policy = new(
            new(weights),
            new(weights, Recipe.Optimizer),
            new(Recipe.Training.TokensPerMicroBatch, Recipe.Training.GradientCheckpointing)
        );
        Trainer = new(
            Policy,
            Grpo.Create(a.NormalizeByStd, a.ClipLow, a.ClipHigh, a.KlCoefficient, a.ImportanceCap),
            new()
            {
                TokensPerMicroBatch = Recipe.Training.TokensPerMicroBatch,
                Temperature = Recipe.Rollout.Temperature,
                MaxNewTokens = Recipe.Rollout.MaxNewTokens,
                LossAverage = a.LossAverage,
                Epochs = a.Epochs,
                MiniBatches = a.MiniBatches,
            },
            reference
        );
        weights.Version = 0;
        finished = State();
    }

    private void Resume()
    {
        if (Checkpoints.LoadLatest(Run, Policy, Recipe.Seed, startHash) is { } state)
        {
            (Step, Order.Position, finished) = (state.Step, state.DataPosition, state);
            carried.AddRange(
                state.Carried.Select(
                    (position, i) =>
                        Fresh(position, Order.At(position), Recipe.Rollout.PromptsPerStep + Recipe.Rollout.Carry + i)
                )
            );
            say($"resumed after step {Step} from {Checkpoints.Folder(Run, Step)}");
            if (Step >= Recipe.Training.Steps)
                say($"all {Recipe.Training.Steps} steps are done; to train on, resume with --set training.steps=N");
        }
        else
            say($"{Run.Path} has no checkpoint yet; starting at the first step");
        Policy.Weights.Version = Step;
        Evaluation.Cut(Run, Step);
    }

    private Task<VllmWorkers> StartServersAsync(ClusterKey? key, CancellationToken stop)
    {
        var w = Recipe.Workers;
        (CudaDevice, TorchSharp.torch.ScalarType)? from =
            w.SendDevice.Length > 0 ? (CudaDevice.Parse(w.SendDevice)!, WorkerDevices.ParseType(w.Type)) : null;
        if (from is not null && key is not null)
            say(
                "the cluster key does not protect the weights' bytes on their way to servers on GPUs: NCCL sends them in the clear"
            );
        return VllmWorkers.StartAsync(
            [.. w.Servers.Select(s => new Uri(s))],
            Environment.GetEnvironmentVariable("SIMPLE_R1_API_KEY"),
            null,
            stop,
            key,
            from
        );
    }

    private Task<TrainerCluster> StartClusterAsync(HeadAddress? join, CancellationToken stop)
    {
        var w = Recipe.Workers;
        var options = new ClusterOptions
        {
            Join = join,
            Name = Recipe.Name,
            Workers = w.Count,
            Device = w.Device,
            Type = w.Type,
            SendDevice = w.SendDevice.Length > 0 ? w.SendDevice : null,
            ThreadsPerWorker = w.Threads,
            Port = w.Port,
            Transport = w.Transport,
            OnUpdate = w.OnUpdate,
            Overlap = w.Overlap,
            Delta = w.Delta,
            LogFolder = Path.Combine(Run.Path, "logs"),
            Log = say,
        };
        return TrainerCluster.StartAsync(
            options,
            new(
                Config,
                Tokenizer.Json,
                new()
                {
                    BlockSize = w.BlockSize,
                    KvCacheBytes = (long)w.KvCacheMib << 20,
                    MaxBatchedTokens = w.MaxBatchedTokens,
                    MaxSequences = w.MaxSequences,
                    MaxContext = Context,
                }
            ),
            stop
        );
    }

    public async ValueTask DisposeAsync()
    {
        if (cluster is not null)
            await cluster.DisposeAsync();
        servers?.Dispose();
        await tensors.RunAsync(() =>
        {
            Policy?.Dispose();
            Policy?.Weights.Dispose();
        });
        tensors.Dispose();
        log?.Dispose();
        runLock?.Dispose();
    }
}

/// <summary>Who is told what happens in a run.</summary>
public sealed record ExperimentEvents(Action<StepReport> Step, Action<Evaluation> Evaluation, Action<string> Say);

/// <param name="RunsFolder">Where runs/NAME goes.</param>
/// <param name="Existing">What to do with a run of the same name.</param>
/// <param name="Join">The head whose workers to use; null starts some of its own.</param>
/// <param name="ServerKey">The cluster key of the recipe's servers; null where they have none.</param>
public sealed record ExperimentOptions(
    string RunsFolder,
    ExistingRun Existing,
    ExperimentEvents Events,
    HeadAddress? Join = null,
    ClusterKey? ServerKey = null
);
