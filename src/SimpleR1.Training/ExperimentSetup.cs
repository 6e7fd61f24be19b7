using SimpleR1.Cluster;
using SimpleR1.Cluster.Trainer;
using SimpleR1.Models;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using SimpleR1.Training.Algorithms;
using SimpleR1.Training.Data;
using SimpleR1.Training.Policy;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Rollouts;
using SimpleR1.Training.Runs;
using SimpleR1.Training.Runs.Evaluations;
using SimpleR1.Training.Runs.Fingerprints;
using SimpleR1.Vllm;

namespace SimpleR1.Training;

/// <summary>
/// Starts an experiment: loads and checks its files, resumes its run, starts its workers. Owns all that must be
/// disposed.
/// </summary>
internal sealed class ExperimentSetup : IAsyncDisposable
{
    private readonly ExperimentOptions options;
    private TrainerCluster? cluster;
    private VllmWorkers? servers; // instead of a cluster
    private RunLog? log;
    private RunSession? session;
    private LoadedPolicy? policy;
    private Decoder? reference; // the first model, frozen, when the algorithm compares with it

    private ExperimentSetup(TrainRecipe recipe, ExperimentOptions options, RunFolder run, ExperimentInput input)
    {
        this.options = options;
        Recipe = recipe;
        Run = run;
        Input = input;
        Fingerprint = InputFingerprint.OfTraining(recipe, input);
        EvaluationFingerprint = InputFingerprint.OfEvaluation(recipe, input);
        Order = DataMix.Order(recipe.Data.Train, input.Problems.Select(p => p.Source), recipe.Seed);
        Prompts = new(recipe.Rollout, input.Requests, input.Problems, Order)
        {
            Pool = DifficultyPool.Create(recipe, input.Solved),
        };
    }

    public TrainRecipe Recipe { get; }
    public RunFolder Run { get; }
    public ExperimentInput Input { get; }

    /// <summary>What the run trains on; a checkpoint keeps it.</summary>
    public Fingerprint Fingerprint { get; }

    /// <summary>How held-out problems are answered.</summary>
    public Fingerprint EvaluationFingerprint { get; }
    public DataOrder Order { get; }
    public PromptQueue Prompts { get; }
    public ExperimentEvents Events => options.Events;
    public bool EvaluatesOnly => options.EvaluatesOnly;
    public StepClock Clock { get; private init; } = new();

    /// <summary>The thread of everything that touches the trainer's tensors.</summary>
    public TensorThread Tensors { get; } = new("trainer");
    public PolicyModel Policy => policy!.Model;
    public PolicyGradient Trainer { get; private set; } = null!;

    /// <summary>Where the run starts: before its first step, or after that of its last checkpoint.</summary>
    public RunState Start { get; private set; } = null!;
    public IRolloutWorkers Workers => servers as IRolloutWorkers ?? cluster!.Workers;
    public RunSession Session => session ?? throw new InvalidOperationException("the run has not started");
    public RunLog Log => log ?? throw new InvalidOperationException("the run has ended; nothing more can be logged");

    /// <summary>Errors in files come before anything slow, and nothing is written before all input is good.</summary>
    public static async Task<ExperimentSetup> StartAsync(
        CheckedRecipe<TrainRecipe> checking,
        ExperimentOptions options,
        CancellationToken stop
    )
    {
        var clock = new StepClock();
        var input = ExperimentInput.Load(checking, options);
        var recipe = checking.Recipe;
        var run = RunFolder.Find(options.RunsFolder, recipe.Name, options.Existing);
        var setup = new ExperimentSetup(recipe, options, run, input) { Clock = clock };
        try
        {
            await setup.Tensors.RunAsync(setup.TakeMemory);
            setup.session = RunSession.Open(options.RunsFolder, recipe.Name, options.Existing, setup.Events.Log);

            // The workers' processes start while the weights are read
            var workers = setup.StartWorkersAsync(stop);
            try
            {
                await setup.Tensors.RunAsync(setup.LoadPolicy);
                await setup.OpenLogAsync();
            }
            finally
            {
                await workers;
            }
            setup.WriteOrigin();
            setup.Run.WriteRecipe(recipe, setup.Start.Step); // the last of a start: the folder is a run's then
            return setup;
        }
        catch
        {
            await setup.DisposeAsync();
            throw;
        }
    }

    private void WriteOrigin()
    {
        var started = DateTimeOffset.UtcNow.AddSeconds(-Clock.Seconds);
        var machine = Machine.Current([Input.Devices.Trainer.Name, .. Input.Devices.Workers]);
        RunOrigin.Current(started, Start.Step, options.CommandLine, machine).AddTo(Run);
    }

    private void TakeMemory()
    {
        var (_, trainer, pool) = Input.Memory;
        Events.Log($"trainer on {trainer.Describe()}");
        policy = new(trainer, Recipe.Optimizer, pool);
    }

    private void LoadPolicy()
    {
        policy!.Initialize(weights => Checkpoint.ReadInto(Recipe.Model.Path, weights));
        reference = Recipe.Algorithm.KlCoefficient > 0 ? new(policy.Copy()) : null;
        var algorithm = AlgorithmRegistry.Create(Recipe.Algorithm);
        Trainer = new(Policy, algorithm, GradientOptions(), reference);
        int step = options.EvaluatesOnly ? RunState.StepOf(Recipe.Model.Path) : 0;
        policy.Weights.Version = step;
        Start = new(step, 0, 0, Recipe.Seed, policy.StartHash) { Fingerprint = Fingerprint };
    }

    private PolicyGradientOptions GradientOptions() =>
        new()
        {
            Temperature = Recipe.Rollout.Temperature,
            MaxNewTokens = Recipe.Rollout.MaxNewTokens,
            LossAverage = Recipe.Algorithm.LossAverage,
            Epochs = Recipe.Algorithm.Epochs,
            MiniBatches = Recipe.Algorithm.MiniBatches,
            SkipZeroAdvantages = Recipe.Training.SkipZeroAdvantages,
            MaskTruncated = Recipe.Algorithm.MaskTruncated,
            SharedPrompts = Recipe.Training.SharedPrompts ?? Policy.Weights.Device is not null,
        };

    /// <summary>Resumes the run if it is to be, and opens its logs.</summary>
    private async Task OpenLogAsync()
    {
        bool resume = options.Existing == ExistingRun.Resume;
        if (resume)
            await Tensors.RunAsync(Resume);
        log = new(Run, resume ? Start.Step : null);
        if (resume)
            Clock.Continue(ElapsedTime.Last(Run.Metrics));
    }

    private void Resume()
    {
        if (Checkpoints.LoadLatest(Run, Policy, Recipe.Seed, Start.StartHash) is { } state)
        {
            Start = state;
            string folder = Checkpoints.Folder(Run, state.Step);
            bool otherProblems = ResumedData.Check(state, Fingerprint, folder, options.AllowChangedData, Events.Log);
            if (!otherProblems)
            {
                Order.Position = state.DataPosition;
                Prompts.Resume(state);
            }
            Events.Log($"resumed after step {state.Step} from {folder}");
            if (state.Step >= Recipe.Training.Steps)
                Events.Log(
                    $"all {Recipe.Training.Steps} steps are done; to train on, resume with --set training.steps=N"
                );
        }
        else
            Events.Log($"{Run.Path} has no checkpoint yet; starting at the first step");
        Policy.Weights.Version = Start.Step;
        ResumeEvaluations();
    }

    /// <summary>Drops what comes after the step, and the step's own evaluation unless it counts as a new one would.</summary>
    private void ResumeEvaluations()
    {
        EvaluationFiles.Cut(Run, Start.Step);
        ResumedData.CheckEvaluations(Run, EvaluationFingerprint, Events.Log);
        if (!EvaluationFingerprint.Equals(EvaluationFiles.Of(Run, Start.Step).ReadFingerprint()))
            MetricsWriter.DropEvaluation(Run, Start.Step);
    }

    private async Task StartWorkersAsync(CancellationToken stop)
    {
        if (Recipe.Workers.Servers.Count > 0)
            servers = await StartServersAsync(stop);
        else
            cluster = await StartClusterAsync(stop);
    }

    private Task<VllmWorkers> StartServersAsync(CancellationToken stop)
    {
        var w = Recipe.Workers;
        var sender = w.SendDevice.Length > 0 ? CudaDevice.Parse(w.SendDevice) : null;
        if (sender is not null && options.ServerKey is not null)
            Events.Log(
                "the cluster key does not protect weights that NCCL sends to servers on GPUs: they travel in the clear"
            );
        return VllmWorkers.StartAsync(
            new([.. w.Servers.Select(s => new Uri(s))])
            {
                ApiKey = Environment.GetEnvironmentVariable("SIMPLE_R1_API_KEY"),
                ClusterKey = options.ServerKey,
                SendFrom = sender,
                SendType = Input.Devices.WorkerType.Scalar,
                Temperature = options.EvaluatesOnly ? 1 : Recipe.Rollout.Temperature,
                ProcessedLogProbs = w.ProcessedLogprobs,
            },
            stop
        );
    }

    private Task<TrainerCluster> StartClusterAsync(CancellationToken stop)
    {
        var w = Recipe.Workers;
        var cluster = new ClusterOptions
        {
            Name = Recipe.Name,
            Join = options.Join,
            Port = w.Port,
            LogFolder = Run.Logs,
            Log = Events.Log,

            Workers = Input.Devices.WorkerCount,
            Worker = Input.Devices.ToSettings(w.Threads),
            Colocated = Input.Devices.AreColocated ? policy!.Share(Tensors) : null,

            SendDevice = w.SendDevice.Length > 0 ? w.SendDevice : null,
            Transport = w.Transport,
            OnUpdate = w.OnUpdate,
            Overlap = w.Overlap,
            Delta = w.Delta,
        };
        return TrainerCluster.StartAsync(
            cluster,
            new(Input.Config, Input.Tokenizer.Json, w.ToEngineOptions(Input.Context)),
            stop
        );
    }

    /// <summary>Replaces the policy's weights by those of a folder, for an evaluation.</summary>
    /// <returns>Their hash in f32.</returns>
    /// <exception cref="InvalidOperationException">The experiment trains: its moments are those of its own weights.</exception>
    public Task<ulong> LoadWeightsAsync(string folder, int version)
    {
        if (!EvaluatesOnly)
            throw new InvalidOperationException("only an experiment that evaluates can load other weights");
        return Tensors.RunAsync(() =>
        {
            ulong hash = policy!.Set(weights => Checkpoint.ReadInto(folder, weights));
            policy.Weights.Version = version;
            return hash;
        });
    }

    /// <summary>Sends the policy's weights to the workers; servers take them in f32 from the CPU.</summary>
    public async Task<SyncReport> PushWeightsAsync()
    {
        int version = policy!.Weights.Version;
        if (servers is null || policy.Weights.Device is null)
            return await Workers.PushWeightsAsync(policy.Weights, version, CancellationToken.None);
        using var onCpu = await Tensors.RunAsync(Policy.Optimizer.Master.OnCpu);
        return await Workers.PushWeightsAsync(onCpu, version, CancellationToken.None);
    }

    /// <summary>
    /// Largest resident set of each process of the run, and most activations of a trainer on a GPU, in bytes.
    /// </summary>
    public IReadOnlyList<(string Part, long Bytes)> PeakMemory()
    {
        var parts = new List<(string, long)> { ("trainer", ProcessMemory.Peak(Environment.ProcessId)) };
        if (policy!.PeakActivations > 0)
            parts.Add(($"activations on {Input.Devices.Trainer.Name}", policy.PeakActivations));
        parts.AddRange(cluster?.Workers.Status().Select(w => (w.Name, w.PeakMemoryBytes)) ?? []);
        return parts;
    }

    /// <summary>Ends the run's logs: what they buffer is in their files then.</summary>
    public void CloseLog()
    {
        log?.Dispose();
        log = null;
    }

    public async ValueTask DisposeAsync()
    {
        if (cluster is not null)
            await cluster.DisposeAsync();
        servers?.Dispose();
        await Tensors.RunAsync(() =>
        {
            reference?.Dispose();
            reference?.Weights.Dispose();
            policy?.Dispose();
        });
        Tensors.Dispose();
        log?.Dispose();
        session?.Dispose();
    }
}
