using System.Runtime.CompilerServices;
using SimpleR1.Cluster;
using SimpleR1.Cluster.Trainer;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Models.Tokenization;
using SimpleR1.WeightSync.SharedMemory;

namespace SimpleR1.Server.Sources;

/// <summary>Completions by the workers of a cluster: each that comes gets the served model, and a request of one that dies goes on at another.</summary>
public sealed class ClusterCompletions : ICompletionSource, IAsyncDisposable
{
    private static readonly TimeSpan StatisticsEvery = TimeSpan.FromSeconds(1);

    private readonly FlatWeights weights;
    private readonly TrainerCluster cluster;
    private readonly EngineOptions engine;
    private readonly string nobody; // what to do when no worker has the model
    private readonly CancellationTokenSource stopping = new();
    private readonly Dictionary<string, EngineStatistics> last = []; // by worker process, those that are gone too: counters must not fall
    private readonly Task publishing,
        watching;
    private volatile EngineStatistics statistics = new();
    private volatile string? failure;

    private ClusterCompletions(
        string model,
        FlatWeights weights,
        Tokenizer tokenizer,
        EngineOptions engine,
        TrainerCluster cluster,
        bool othersStartWorkers
    )
    {
        nobody = othersStartWorkers
            ? "no worker has the model; start some with: simple-r1 worker --join"
            : "no worker has the model yet, they are starting; ask again";
        (Model, this.weights, Tokenizer, this.engine, this.cluster) = (model, weights, tokenizer, engine, cluster);
        Context = engine.ContextOf(Config);
        publishing = PublishAsync();
        watching = WatchAsync();
    }

    /// <summary>Loads the model, and starts or joins the cluster; workers get the weights as they come.</summary>
    /// <param name="folder">Of the model.</param>
    /// <param name="engine">Of each worker.</param>
    /// <exception cref="IOException">A port is taken, or the head refuses this process (another trainer has the workers, for one).</exception>
    public static async Task<ClusterCompletions> StartAsync(
        string model,
        string folder,
        EngineOptions engine,
        ClusterOptions options,
        CancellationToken cancellation = default
    )
    {
        var config = ModelConfigFile.Load(folder);
        var tokenizer = Tokenizer.Load(folder);
        tokenizer.CheckFits(config);
        engine.Check(config);
        var weights = SharedWeightMemory.Allocate(new WeightLayout(config));
        try
        {
            Checkpoint.ReadInto(folder, weights);
            weights.Version = 0;
            return new(
                model,
                weights,
                tokenizer,
                engine,
                await TrainerCluster.StartAsync(options, new(config, tokenizer.Json, engine), cancellation),
                options.OthersStartWorkers
            );
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
    public int MaxSequences => engine.MaxSequences * Math.Max(1, Serving);
    public EngineStatistics Statistics => statistics;

    /// <summary>HOST:PORT of the cluster's head, where it is in this process.</summary>
    public string Join => cluster.Join;
    public WorkerPool Workers => cluster.Workers;

    public string? Problem =>
        failure
        ?? (
            Serving > 0 ? null
            : cluster.Workers.Count(WorkerState.Receiving, WorkerState.Ready, WorkerState.Suspect) > 0
                ? "no worker is ready yet; ask again"
            : nobody
        );

    /// <summary>A worker of the first push may be Ready a moment before the push has ended; until then the pool takes no request.</summary>
    private int Serving => cluster.Workers.Version < 0 ? 0 : cluster.Workers.Count(WorkerState.Ready);

    public async IAsyncEnumerable<TokenEvent> StreamAsync(
        GenerationRequest request,
        [EnumeratorCancellation] CancellationToken cancellation
    )
    {
        if (Problem is { } problem)
            throw new InvalidOperationException(problem);
        var events = cluster.Workers.StreamAsync(request, cancellation).GetAsyncEnumerator(CancellationToken.None);
        await using var _ = events;
        while (await MoreAsync())
            yield return events.Current;

        async Task<bool> MoreAsync()
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

    /// <summary>Until the first worker has proven that it holds the weights; those that come later are brought to them by the pool.</summary>
    private async Task PublishAsync()
    {
        while (true)
            try
            {
                await cluster.Workers.PushWeightsAsync(weights, 0, stopping.Token);
                return;
            }
            catch (TimeoutException) { } // nobody has come yet
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
        using var timer = new PeriodicTimer(StatisticsEvery);
        try
        {
            do
            {
                var now = await cluster.Workers.StatisticsAsync(stopping.Token);
                foreach (string gone in last.Keys.Except(now.Keys).ToArray())
                    last[gone] = last[gone] with
                    {
                        Running = 0,
                        Waiting = 0,
                        Blocks = 0,
                        BlocksInUse = 0,
                        CachedBlocks = 0,
                    };
                foreach (var (instance, of) in now)
                    last[instance] = of;
                statistics = EngineStatistics.Sum(last.Values) with { WeightVersion = cluster.Workers.Version };
            } while (await timer.WaitForNextTickAsync(stopping.Token));
        }
        catch (OperationCanceledException) { }
    }

    /// <summary>Lets the workers go, and frees the model.</summary>
    public async ValueTask DisposeAsync()
    {
        stopping.Cancel();
        await cluster.DisposeAsync();
        await Task.WhenAll(publishing, watching);
        weights.Dispose();
        stopping.Dispose();
    }
}
