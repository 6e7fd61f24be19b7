using System.Diagnostics;
using SimpleR1.Models;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Training.Data;
using SimpleR1.Training.Policy;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Runs;

namespace SimpleR1.Training.Supervised;

/// <summary>
/// Training on text, with the policy, the optimizer and the run folder of reinforcement learning: how the tiny base
/// model is made.
/// </summary>
public sealed class Sft : IDisposable
{
    private readonly SftRecipe recipe;
    private readonly SftOptions options;
    private readonly SftInput input;
    private readonly LoadedPolicy policy;
    private readonly PolicyModel trainer;
    private readonly DataOrder order;
    private readonly Stopwatch clock = new();

    private Sft(SftRecipe recipe, SftOptions options, SftInput input)
    {
        this.recipe = recipe;
        this.options = options;
        this.input = input;
        options.Log($"trainer on {input.Memory.Describe()}");
        policy = new(input.Memory, recipe.Optimizer);
        policy.Initialize(SetWeights);
        trainer = policy.Model;
        order = input.Order;
    }

    private void SetWeights(FlatWeights weights)
    {
        if (recipe.Model.Path is { } path)
            Checkpoint.ReadInto(path, weights);
        else
            NewModel.Initialize(weights, recipe.Seed);
    }

    /// <summary>
    /// Trains, and writes the model to the recipe's output folder after the last step. When stopped, it saves a
    /// checkpoint of the run instead, which <see cref="ExistingRun.Resume"/> continues bit for bit.
    /// </summary>
    /// <exception cref="RecipeException">
    /// Something that the recipe names is wrong, or its output exists; the exception has all of it.
    /// </exception>
    public static SftOutcome Run(SftRecipe recipe, SftOptions options, CancellationToken stop) =>
        Run(CheckedRecipe<SftRecipe>.Of(recipe), options, stop);

    /// <summary>Reads a recipe and trains. Mistakes in the recipe and in what it names are reported together.</summary>
    /// <exception cref="RecipeException">It has all mistakes, with their lines.</exception>
    /// <exception cref="FileNotFoundException">There is no such recipe.</exception>
    public static SftOutcome Run(
        string path,
        IEnumerable<string> overrides,
        SftOptions options,
        CancellationToken stop
    ) => Run(RecipeFile.Read<SftRecipe>(path, overrides), options, stop);

    private static SftOutcome Run(CheckedRecipe<SftRecipe> checking, SftOptions options, CancellationToken stop)
    {
        var input = SftInput.Load(checking, options);
        var recipe = checking.Recipe;
        recipe.Optimizer.LogShortWarmup(recipe.Training.Steps, options.Log);
        using var session = RunSession.Open(options.RunsFolder, recipe.Name, options.Existing, options.Log);
        using var training = new Sft(recipe, options, input);
        return training.Run(session, stop);
    }

    private SftOutcome Run(RunSession session, CancellationToken stop)
    {
        // The run's folder
        var run = session.Run;
        var start = new RunState(0, 0, 0, recipe.Seed, policy.StartHash);
        bool resumes = options.Existing == ExistingRun.Resume;
        if (resumes)
            start = Resume(run, start);
        using var metrics = new MetricsWriter(run, resumes ? start.Step : null);
        run.WriteRecipe(recipe, start.Step);

        // Steps
        var state = start;
        double? loss = null;
        int steps = recipe.Training.Steps;
        clock.Start();
        while (state.Step < steps && !stop.IsCancellationRequested)
        {
            var step = MakeStep(state.Step, start.Step);
            state = state with
            {
                Step = step.Step,
                OptimizerSteps = trainer.Optimizer.Steps,
                DataPosition = order.Position,
            };
            metrics.Write(step.Step, step.Metrics());
            session.StepWritten();
            options.Step(step);
            loss = step.HeldOutLoss ?? step.Loss;
            if (IsDue(recipe.Training.CheckpointEvery, state.Step))
                Save(run, state);
        }

        // The end
        Save(run, state);
        session.Keep();
        bool interrupted = state.Step < steps;
        if (!interrupted)
            trainer.Optimizer.Master.UseOnCpu(master => SftOutput.Write(recipe, master, input.Files));
        string[] written = interrupted ? [] : [recipe.Output];
        return new(state.Step, interrupted, loss, [.. run.Written(state.Step), .. written]);
    }

    private RunState Resume(RunFolder run, RunState start)
    {
        if (Checkpoints.LoadLatest(run, trainer, start.Seed, start.StartHash) is not { } state)
        {
            options.Log($"{run.Path} has no checkpoint yet; starting at the first step");
            return start;
        }
        order.Position = state.DataPosition;
        options.Log($"resumed after step {state.Step} from {Checkpoints.Folder(run, state.Step)}");
        return state;
    }

    /// <param name="finished">Steps finished before this one.</param>
    /// <param name="first">Steps finished before this process.</param>
    private SftStep MakeStep(int finished, int first)
    {
        // One update
        var batch = NextBatch();
        double learningRate = Optimizer.LearningRate(recipe.Optimizer, finished, recipe.Training.Steps);
        float weight = 1f / batch.Sum(s => s.Trained);
        var update = trainer.Update(
            batch,
            1,
            finished,
            learningRate,
            (_, logProbs) => (-(logProbs * weight).sum(), [])
        );

        int step = finished + 1;
        double? heldOutLoss = null;
        if (input.HeldOut is { } heldOut && IsDue(recipe.Training.EvaluateEvery, step))
            heldOutLoss = MeanLoss(heldOut);
        return new()
        {
            Step = step,
            Steps = recipe.Training.Steps,
            Loss = update.Loss,
            GradientNorm = update.GradientNorm,
            LearningRate = learningRate,
            Seconds = update.Seconds,
            Tokens = update.Tokens,
            HeldOutLoss = heldOutLoss,
            EtaSeconds = clock.Elapsed.TotalSeconds / (step - first) * (recipe.Training.Steps - step),
        };
    }

    private List<TrainingSequence> NextBatch()
    {
        var batch = new List<TrainingSequence>();
        for (int computed = 0; computed < recipe.Training.TokensPerBatch; computed += batch[^1].Computed)
            batch.Add(input.Texts[order.Next()]);
        return batch;
    }

    private double MeanLoss(TrainingSequence[] texts) =>
        -trainer.LogProbs(texts, 1).Sum(p => p.Sum(x => (double)x)) / texts.Sum(t => t.Trained);

    /// <param name="step">Steps finished.</param>
    private bool IsDue(int every, int step) => step == recipe.Training.Steps || every > 0 && step % every == 0;

    private void Save(RunFolder run, RunState state) =>
        Checkpoints.Save(run, trainer, state, input.Files, recipe.Training.KeepCheckpoints);

    public void Dispose()
    {
        policy.Dispose();
    }
}
