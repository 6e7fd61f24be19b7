using System.Collections.Concurrent;
using System.Runtime.CompilerServices;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Models.Tokenization;
using SimpleR1.Tensors;

namespace SimpleR1.Server.Sources;

/// <summary>Completions by one engine, on a thread of this process.</summary>
public sealed class LocalCompletions : ICompletionSource, IAsyncDisposable
{
    private readonly FlatWeights weights;
    private readonly EngineThread engine;
    private readonly ConcurrentDictionary<string, bool> running = []; // ids of requests in the engine
    private Decoder? decoder; // made on the engine's thread, freed after the engine
    private volatile TaskCompletionSource? gate; // new requests wait for it, while the engine is paused

    /// <param name="model">The name that clients ask for.</param>
    /// <param name="weights">Disposed with this.</param>
    /// <param name="threads">Threads of the engine's tensor code.</param>
    /// <exception cref="ArgumentException">The options do not fit the model.</exception>
    /// <exception cref="InvalidDataException">The tokenizer does not fit the model.</exception>
    public LocalCompletions(string model, FlatWeights weights, Tokenizer tokenizer, EngineOptions options, int threads)
    {
        Model = model;
        Tokenizer = tokenizer;
        this.weights = weights;
        options.Check(Config);
        tokenizer.CheckFits(Config);
        Context = options.ContextOf(Config);
        MaxSequences = options.MaxSequences;
        engine = new(() =>
        {
            CpuParallel.Threads = threads; // a setting of the calling thread
            decoder = new(weights);
            return new(decoder, tokenizer, options);
        });
    }

    public string Model { get; }
    public ModelConfig Config => weights.Layout.Config;
    public Tokenizer Tokenizer { get; }
    public int Context { get; }
    public int MaxSequences { get; }
    public EngineStatistics Statistics => engine.Statistics;
    public string? Problem => engine.Failure?.Message;

    internal FlatWeights Weights => weights;

    /// <summary>Where the engine runs and what memory it took; null on a CPU.</summary>
    /// <exception cref="InvalidOperationException">The engine could not be built.</exception>
    public Task<string?> DescribeAsync() => engine.BetweenStepsAsync(e => e.Description);

    public async IAsyncEnumerable<TokenEvent> StreamAsync(
        GenerationRequest request,
        [EnumeratorCancellation] CancellationToken cancellation
    )
    {
        while (gate is { } closed)
            await closed.Task.WaitAsync(cancellation);
        running[request.Id] = true;
        try
        {
            await foreach (var e in engine.StreamAsync(request, cancellation))
                yield return e;
        }
        finally
        {
            running.TryRemove(request.Id, out _);
        }
    }

    /// <summary>Makes new requests wait until <see cref="OpenGate"/>.</summary>
    internal void CloseGate() => gate ??= new(TaskCreationOptions.RunContinuationsAsynchronously);

    internal void OpenGate()
    {
        var waiting = gate;
        gate = null;
        waiting?.TrySetResult();
    }

    /// <summary>Ends all requests; they complete as aborted, with the tokens that they have.</summary>
    internal Task AbortAllAsync() =>
        engine.BetweenStepsAsync(e =>
        {
            AbortAll(e);
            return true;
        });

    /// <summary>Ends all requests, from a call on the engine's thread.</summary>
    internal void AbortAll(Engine e)
    {
        foreach (string id in running.Keys)
            e.Abort(id);
    }

    /// <summary>Runs work, such as a weight update, between two of the engine's steps.</summary>
    internal Task<T> BetweenStepsAsync<T>(Func<Engine, T> work) => engine.BetweenStepsAsync(work);

    /// <summary>Aborts what still runs, and frees the model.</summary>
    public async ValueTask DisposeAsync()
    {
        await engine.DisposeAsync();
        decoder?.Dispose();
        weights.Dispose();
    }
}
