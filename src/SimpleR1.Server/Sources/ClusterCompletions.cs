using System.Runtime.CompilerServices;
using SimpleR1.Cluster;
using SimpleR1.Cluster.Trainer;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Models.Tokenization;
using SimpleR1.WeightSync.SharedMemory;

namespace SimpleR1.Server.Sources;

/// <summary>
/// Completions by the workers of a cluster. Each worker that joins gets the served model; when a worker dies, its
/// requests continue on another one.
/// </summary>
public sealed class ClusterCompletions : ICompletionSource, IAsyncDisposable
{
    private static readonly TimeSpan StatisticsInterval = TimeSpan.FromSeconds(1);

    private readonly FlatWeights weights;
    private readonly TrainerCluster cluster;
    private readonly EngineOptions engine;
    private readonly string noWorkerProblem;
    private readonly CancellationTokenSource stopping = new();

    /// <summary>
    /// The last statistics of each worker process; processes that are gone stay, as counters must not fall.
    /// </summary>
    private readonly Dictionary<string, EngineStatistics> lastStatistics = [];
    private readonly Task publishing;
    private readonly Task watching;
    private volatile EngineStatistics statistics = new();
    private volatile string? failure;

    private ClusterCompletions(ServedModel served, TrainerCluster cluster, bool othersStartWorkers)
    {
        Model = served.Name;
        weights = served.Weights;
        Tokenizer = served.Tokenizer;
        engine = served.Engine;
        Context = engine.ContextOf(Config);
        this.cluster = cluster;
        noWorkerProblem = othersStartWorkers
            ? "no worker has the model; start some with: simple-r1 worker --join"
            : "no worker has the model yet, they are starting; try again";
        publishing = PublishAsync();
        watching = WatchAsync();
    }

    /// <summary>Loads the model, and starts or joins the cluster; workers get the weights as they join.</summary>
    /// <param name="model">The name that clients ask for.</param>
    /// <param name="folder">The model's folder.</param>
    /// <param name="engine">The options of each worker's engine.</param>
    /// <exception cref="IOException">
    /// A port is taken, or the head refuses this process, for example because another trainer has the workers.
    /// </exception>
    public static async Task<ClusterCompletions> StartAsync(
        string model,
        string folder,
        EngineOptions engine,
        ClusterOptions options,
        CancellationToken cancellation = default
    )
    {
        // What can be wrong with the model shows before anything is started.
        var config = ModelConfigFile.Load(folder);
        var tokenizer = Tokenizer.Load(folder);
        tokenizer.CheckFits(config);
        engine.Check(config);

        var weights = SharedWeightMemory.Allocate(new WeightLayout(config));
        try
        {
            Checkpoint.ReadInto(folder, weights);
            weights.Version = 0;
            var setup = new WorkerSetup(config, tokenizer.Json, engine);
            var cluster = await TrainerCluster.StartAsync(options, setup, cancellation);
            return new(new(model, weights, tokenizer, engine), cluster, options.OthersStartWorkers);
        }
        catch
        {
            weights.Dispose();
            throw;
        }
    }

    public string Model { get; }
    public ModelConfig Config => weights.Layout.Config;
    public Tokenizer Tokenizer { get; }
    public int Context { get; }
    public int MaxSequences => ServingWorkers > 0 ? Workers.MaxSequences(WorkerState.Ready) : engine.MaxSequences;
    public EngineStatistics Statistics => statistics;

    /// <summary>HOST:PORT of the cluster's head, if it runs in this process.</summary>
    public string Join => cluster.Join;
    public WorkerPool Workers => cluster.Workers;

    public string? Problem
    {
        get
        {
            if (failure is not null)
                return failure;
            if (ServingWorkers > 0)
                return null;
            int preparing = Workers.Count(WorkerState.Receiving, WorkerState.Ready, WorkerState.Suspect);
            return preparing > 0 ? "no worker is ready yet; try again" : noWorkerProblem;
        }
    }

    /// <summary>
    /// Workers that take requests. A worker may be Ready a moment before the first push has ended, and until then the
    /// pool takes no request.
    /// </summary>
    private int ServingWorkers => Workers.Version < 0 ? 0 : Workers.Count(WorkerState.Ready);

    public async IAsyncEnumerable<TokenEvent> StreamAsync(
        GenerationRequest request,
        [EnumeratorCancellation] CancellationToken cancellation
    )
    {
        if (Problem is { } problem)
            throw new InvalidOperationException(problem);
        var events = Workers.StreamAsync(request, cancellation).GetAsyncEnumerator(CancellationToken.None);
        await using var _ = events;
        while (await MoveNextAsync())
            yield return events.Current;

        async Task<bool> MoveNextAsync()
        {
            try
            {
                return await events.MoveNextAsync();
            }
            catch (TimeoutException e)
            {
                throw new InvalidOperationException(e.Message, e);
            }
        }
    }

    /// <summary>
    /// Pushes the weights until the first worker has proven that it holds them. The pool brings them to workers that
    /// join later.
    /// </summary>
    private async Task PublishAsync()
    {
        while (true)
            try
            {
                await Workers.PushWeightsAsync(weights, 0, stopping.Token);
                return;
            }
            catch (TimeoutException) { } // no worker has joined yet
            catch (Exception) when (stopping.IsCancellationRequested)
            {
                return;
            }
            catch (Exception e)
            {
                failure = e.Message;
                return;
            }
    }

    private async Task WatchAsync()
    {
        using var timer = new PeriodicTimer(StatisticsInterval);
        try
        {
            do await UpdateStatisticsAsync();
            while (await timer.WaitForNextTickAsync(stopping.Token));
        }
        catch (OperationCanceledException) { }
    }

    private async Task UpdateStatisticsAsync()
    {
        var current = await Workers.StatisticsAsync(stopping.Token);

        // A process that is gone keeps its counters, and holds nothing any more.
        foreach (string gone in lastStatistics.Keys.Except(current.Keys).ToArray())
            lastStatistics[gone] = lastStatistics[gone] with
            {
                Running = 0,
                Waiting = 0,
                Blocks = 0,
                BlocksInUse = 0,
                CachedBlocks = 0,
            };
        foreach (var (process, itsStatistics) in current)
            lastStatistics[process] = itsStatistics;
        statistics = EngineStatistics.Sum(lastStatistics.Values) with { WeightVersion = Workers.Version };
    }

    /// <summary>Releases the workers, and frees the model.</summary>
    public async ValueTask DisposeAsync()
    {
        stopping.Cancel();
        await cluster.DisposeAsync();
        await Task.WhenAll(publishing, watching);
        weights.Dispose();
        stopping.Dispose();
    }

    private sealed record ServedModel(string Name, FlatWeights Weights, Tokenizer Tokenizer, EngineOptions Engine);
}
