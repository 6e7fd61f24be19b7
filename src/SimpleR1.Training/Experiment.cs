using SimpleR1.Cluster;
using SimpleR1.Cluster.Processes;
using SimpleR1.Cluster.Trainer;
using SimpleR1.Cluster.Worker;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Models.Prompts;
using SimpleR1.Models.Tokenization;
using SimpleR1.Tensors;
using SimpleR1.Training.Algorithms;
using SimpleR1.Training.Data;
using SimpleR1.Training.Policy;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Rewards;
using SimpleR1.Training.Rollouts;
using SimpleR1.Training.Runs;
using SimpleR1.Training.Runs.Evaluations;
using SimpleR1.Training.Runs.Fingerprints;
using SimpleR1.Training.Runs.Reports;

namespace SimpleR1.Training;

/// <summary>
/// Everything a training loop works with: problems, workers, rewards, the policy and the run's folder. Its methods are
/// the words that <see cref="R1Zero"/> is written in; a custom loop uses the same words in another order.
/// </summary>
public sealed class Experiment : IAsyncDisposable
{
    private readonly ExperimentSetup setup;
    private readonly RolloutSampler sampler;
    private readonly RunWarnings warnings;
    private double generationSeconds;
    private double rewardSeconds; // of these, after the last completion
    private EngineWork engineWork = new(0, 0, 0);
    private RunState lastStep; // after the last complete step
    private bool isStepOpen;

    private Experiment(ExperimentSetup setup)
    {
        this.setup = setup;
        Environments = problem => new SingleTurn(problem, Rewards, setup.Input.Requests.AnswerStart(problem));
        var collector = new RolloutCollector(setup.Workers, problem => Environments(problem), Rewards);
        sampler = new(collector, setup.Prompts, Recipe.Rollout, Run.FailedReward) { Progress = Report };
        warnings = new(setup.Input.Config.VocabularySize, Recipe.Training.EngineDifferenceAlarm);
        lastStep = setup.Start;
        Step = setup.Start.Step;
    }

    /// <summary>
    /// Loads everything, resumes the run when asked to, and starts the workers. Errors in files come before anything
    /// slow.
    /// </summary>
    /// <exception cref="RecipeException">
    /// Something that the recipe names is wrong: a file, a device, a port. The exception has all of it.
    /// </exception>
    public static async Task<Experiment> StartAsync(
        TrainRecipe recipe,
        ExperimentOptions options,
        CancellationToken stop
    ) => new(await ExperimentSetup.StartAsync(CheckedRecipe<TrainRecipe>.Of(recipe), options, stop));

    /// <summary>
    /// Reads a recipe and starts its experiment. Mistakes in the recipe and in what it names are reported together.
    /// </summary>
    /// <param name="overrides">Such as <c>optimizer.learning_rate=1e-6</c>.</param>
    /// <exception cref="RecipeException">It has all mistakes, with their lines.</exception>
    /// <exception cref="FileNotFoundException">There is no such recipe.</exception>
    public static async Task<Experiment> StartAsync(
        string path,
        IEnumerable<string> overrides,
        ExperimentOptions options,
        CancellationToken stop
    ) => new(await ExperimentSetup.StartAsync(RecipeFile.Read<TrainRecipe>(path, overrides), options, stop));

    /// <summary>
    /// Serves as a worker if an experiment started this program as one: the first line of a program with a
    /// loop.
    /// </summary>
    /// <returns>The exit code to end with; null when the program is not a worker.</returns>
    public static async Task<int?> RunAsWorkerAsync(string[] args)
    {
        SignalDefaults.Restore();
        NativeMemoryTuning.Apply();
        return await WorkerProcess.RunIfAskedAsync(args);
    }

    public TrainRecipe Recipe => setup.Recipe;
    public RunFolder Run => setup.Run;
    public ModelConfig Config => setup.Input.Config;
    public Tokenizer Tokenizer => setup.Input.Tokenizer;
    public PromptTemplate Template => setup.Input.Template;
    public IReadOnlyList<Problem> Problems => setup.Input.Problems;
    public IReadOnlyList<Problem> HeldOut => setup.Input.HeldOut;
    public DataOrder Order => setup.Order;
    public RewardSet Rewards => setup.Input.Rewards;
    public PolicyModel Policy => setup.Policy;
    public PolicyGradient Trainer => setup.Trainer;
    public IRolloutWorkers Workers => setup.Workers;

    /// <summary>The recipe's algorithm; set it before a step to train with another.</summary>
    public Algorithm Algorithm
    {
        get => Trainer.Algorithm;
        set => Trainer.Algorithm = value;
    }

    /// <summary>
    /// Makes what answers the completions of one sample; the recipe's rewards after a single turn, unless set.
    /// </summary>
    public Func<Problem, IEnvironment> Environments { get; set; }

    /// <summary>Steps finished. The weights after step n have version n.</summary>
    public int Step { get; private set; }

    /// <summary>
    /// True when something that happens every so many steps is due; it always is before the first and after the last.
    /// </summary>
    public bool Due(int every) => Step == 0 || Step >= Recipe.Training.Steps || every > 0 && Step % every == 0;

    public void BeginStep()
    {
        isStepOpen = true;
        setup.Clock.BeginStep(Step);
    }

    /// <summary>
    /// The groups that the last step carried over, then the next problems in the seed's order, as requests of token
    /// ids.
    /// </summary>
    public IReadOnlyList<PromptGroup> NextPrompts() => setup.Prompts.Next(Step);

    /// <summary>
    /// Has the workers complete the prompts and scores each completion as it arrives. With <c>rollout.carry</c> it ends
    /// when enough groups are complete, and keeps the rest for the next step.
    /// </summary>
    /// <returns>Ordered by prompt and sample, in whatever order they arrived.</returns>
    public async Task<IReadOnlyList<Rollout>> CollectAsync(
        IReadOnlyList<PromptGroup> prompts,
        CancellationToken stop = default
    )
    {
        foreach (var prompt in prompts)
            CheckDistribution(prompt.Request);
        double start = setup.Clock.Seconds;
        var before = await Workers.StatisticsAsync(stop);
        var collected = await sampler.SampleAsync(prompts, Step, stop);
        engineWork = EngineWork.Between(before, await Workers.StatisticsAsync(stop));
        setup.Prompts.Carry(collected.Unfinished);
        rewardSeconds = collected.RewardSeconds;
        generationSeconds = setup.Clock.Seconds - start;
        return collected.Rollouts;
    }

    private void CheckDistribution(GenerationRequest request)
    {
        double temperature = Recipe.Rollout.Temperature;
        string? change = request.Sampling.Temperature == temperature ? request.Sampling.Change : "another temperature";
        if (change is not null)
            throw new ArgumentException(
                $"{request.Id} samples with {change}: samples to train on must come from the model's whole distribution "
                    + FormattableString.Invariant(
                        $"at rollout.temperature ({temperature}), of which the trainer computes log-probs"
                    )
            );
    }

    /// <summary>Rewards → advantages → loss → gradient → AdamW; one entry per optimizer step.</summary>
    public async Task<IReadOnlyList<UpdateStatistics>> UpdateAsync(IReadOnlyList<Rollout> rollouts)
    {
        Report($"training on {rollouts.Count} samples");
        await Workers.ReclaimMemoryAsync();
        return await setup.Tensors.RunAsync(() =>
        {
            double learningRate = Optimizer.LearningRate(Recipe.Optimizer, Step, Recipe.Training.Steps);
            var updates = Trainer.Update(sampler.Dynamic.Kept(rollouts), Step, learningRate);
            Policy.Weights.Version = Step + 1;
            return updates;
        });
    }

    /// <summary>
    /// Sends the policy's weights into every worker's live weights; each worker proves by its hash that it holds them.
    /// </summary>
    public Task<SyncReport> PushWeightsAsync()
    {
        Report("sending the weights to the workers");
        return setup.PushWeightsAsync();
    }

    /// <summary>Counts the step and reports it: console, metrics.jsonl, TensorBoard, samples.jsonl.</summary>
    public void EndStep(IReadOnlyList<Rollout> rollouts, IReadOnlyList<UpdateStatistics> updates, SyncReport sync)
    {
        Step++;
        isStepOpen = false;
        var progress = setup.Clock.EndStep(Step, Recipe.Training.Steps);
        var report = StepReport.From(rollouts, updates, sync, progress, generationSeconds);
        report = report.With([.. engineWork.Metrics, .. sampler.Dynamic.Metrics(rollouts), .. setup.Prompts.Metrics]);
        report = report with { RewardSeconds = rewardSeconds };
        if (Recipe.Rollout.Carry > 0)
            report = report.WithOlderTokens(rollouts);
        if (Rewards.MayTimeOut)
            report = report.With([new("timed_out_rewards", rollouts.Sum(r => r.TimedOut))]);

        lastStep = new(Step, Policy.Optimizer.Steps, Order.Position, Recipe.Seed, setup.Start.StartHash)
        {
            Carried = setup.Prompts.CarriedPositions,
            LeftOut = setup.Prompts.Pool?.LeftOut ?? [],
            Fingerprint = setup.Fingerprint,
        };
        setup.Log.Write(report, rollouts.Take(Recipe.Training.SamplesLogged), setup.Clock.Elapsed);
        setup.Session.StepWritten();
        setup.Events.Step(report);
        foreach (string warning in warnings.Check(report))
            setup.Events.Log("warning: " + warning);
    }

    /// <summary>What evaluations follow from, except the weights.</summary>
    public Fingerprint EvaluationFingerprint => setup.EvaluationFingerprint;

    /// <summary>Evaluates other weights of the same model from here on, once they are pushed.</summary>
    /// <param name="folder">Such as a checkpoint.</param>
    /// <param name="step">Training steps that the weights have had.</param>
    /// <returns>Their hash.</returns>
    public async Task<ulong> LoadWeightsAsync(string folder, int step)
    {
        ulong hash = await setup.LoadWeightsAsync(folder, step);
        Step = step;
        return hash;
    }

    /// <summary>
    /// Answers the held-out problems, unless the run did so in the same way after this step before it was resumed. Null
    /// when the recipe has none, or when stopped. With <c>checkpoint.keep_best</c> it keeps the step's checkpoint if this
    /// is the best evaluation so far.
    /// </summary>
    public async Task<Evaluation?> EvaluateAsync(CancellationToken stop)
    {
        var evaluation = ReadEvaluation(Step) ?? await AnswerHeldOutAsync(stop);
        if (evaluation is not null)
            await KeepBestAsync(evaluation);
        return evaluation;
    }

    private async Task<Evaluation?> AnswerHeldOutAsync(CancellationToken stop)
    {
        if (HeldOut.Count == 0 || stop.IsCancellationRequested)
            return null;

        using var pause = setup.Clock.PauseTraining();
        double start = setup.Clock.Seconds;
        PromptGroup[] prompts =
        [
            .. HeldOut.Select(
                (problem, i) => new PromptGroup(problem, setup.Input.Requests.ForEvaluation(Step, i, problem))
            ),
        ];
        try
        {
            var answers = await sampler.ScoreAsync(prompts, prompts.Length, "answering held-out problems", stop);
            var evaluation = EvaluationOf(answers.Rollouts, setup.Clock.Seconds - start);
            setup.Log.Write(evaluation, Recipe.Model.Path, setup.Clock.Elapsed);
            setup.Events.Evaluation(evaluation);
            return evaluation;
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested)
        {
            return null;
        }
    }

    private async Task KeepBestAsync(Evaluation evaluation)
    {
        // The model before training has a folder already
        if (setup.EvaluatesOnly || evaluation.Step == 0)
            return;
        if (BestCheckpoint.Of(evaluation, Recipe.Checkpoint) is not { } found)
            return;
        if (BestCheckpoint.Read(Run) is { } best && !found.Replaces(best))
            return;

        await SaveAsync();
        found.Write(Run);
        Checkpoints.DeleteOld(Run, Recipe.Training.KeepCheckpoints);
        setup.Events.Log($"the best so far by {found}: {Checkpoints.Folder(Run, found.Step)}");
    }

    /// <summary>
    /// Writes a checkpoint that <c>--resume</c> continues bit for bit, and deletes the oldest beyond the recipe's
    /// number.
    /// </summary>
    public Task SaveAsync() =>
        setup.Tensors.RunAsync(() =>
            Checkpoints.Save(Run, Policy, lastStep, setup.Input.Files, Recipe.Training.KeepCheckpoints)
        );

    /// <summary>After a failure: saves the last complete step, if the weights are still that step's.</summary>
    /// <returns>The checkpoint; null when the failed step has changed the weights already, or they are not finite.</returns>
    public async Task<string?> RescueAsync()
    {
        bool unchanged = Policy.Optimizer.Steps == lastStep.OptimizerSteps;
        if (!unchanged || !await setup.Tensors.RunAsync(Policy.Optimizer.Master.AreFinite))
            return null;
        await SaveAsync();
        return Checkpoints.Folder(Run, lastStep.Step);
    }

    /// <summary>Writes the last checkpoint and the plot, and sums the run up.</summary>
    public async Task<RunOutcome> FinishAsync()
    {
        await SaveAsync();
        setup.Session.Keep();
        var after = ReadEvaluation(Step);
        var best = Recipe.Checkpoint.KeepBest is null ? null : BestCheckpoint.Read(Run);
        var memory = setup.PeakMemory();
        setup.CloseLog();
        if (Step > 0)
            Plot.Write([Run.Path], Run.Plot);
        return new()
        {
            Before = ReadEvaluation(0),
            After = after,
            Best = best,
            BestFolder = best is null ? null : Checkpoints.Folder(Run, best.Step),
            Step = Step,
            Interrupted = Step < Recipe.Training.Steps || HeldOut.Count > 0 && after is null,
            Seconds = setup.Clock.Seconds,
            Files = Run.Written(Step),
            PeakMemory = memory,
        };
    }

    private void Report(string activity, int done = 0, int of = 0) =>
        setup.Events.Progress(new(activity, isStepOpen ? Step + 1 : 0, done, of));

    private Evaluation? ReadEvaluation(int step)
    {
        var files = EvaluationFiles.Of(Run, step);
        bool counts = HeldOut.Count > 0 && EvaluationFingerprint.Equals(files.ReadFingerprint());
        return counts ? EvaluationOf(files.ReadAnswers(), 0) with { Step = step } : null;
    }

    private Evaluation EvaluationOf(IReadOnlyList<Rollout> answers, double seconds) =>
        new()
        {
            Step = Step,
            Answers = answers,
            Scores = EvaluationScores.Of(answers, Recipe.Evaluation, Rewards.Vote),
            Sets = EvaluationSet.Of(answers, Recipe.Evaluation, Rewards.Vote),
            Fingerprint = EvaluationFingerprint,
            Seconds = seconds,
        };

    public ValueTask DisposeAsync() => setup.DisposeAsync();
}
