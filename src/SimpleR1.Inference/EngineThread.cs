using System.Runtime.CompilerServices;
using System.Threading.Channels;
using SimpleR1.Models;
using SimpleR1.Models.Tokenization;

namespace SimpleR1.Inference;

// TEMPORARY: the shape of the engine's async edge until branch `engine` is merged; replaced entirely by the merge.
public sealed record EngineOptions { public int BlockSize { get; init; } = 16; public long KvCacheBytes { get; init; } = 1 << 24; public int MaxSequences { get; init; } = 64; }
public sealed class Engine(FlatWeights weights)
{
    public FlatWeights Weights => weights;
    public int Version;
    public void SetWeightVersion(int version) => Version = version;
    public void ResetPrefixCache() { }
}
public sealed class EngineThread : IAsyncDisposable
{
    private readonly Channel<Action> work = Channel.CreateUnbounded<Action>();
    private readonly Engine engine;
    private readonly List<(GenerationRequest Request, int Sample, List<int> Tokens, ChannelWriter<Completion> To, int[] Left, CancellationToken Stop)> running = [];
    public EngineThread(FlatWeights weights, Tokenizer? tokenizer, EngineOptions options)
    {
        engine = new(weights);
        new Thread(Loop) { IsBackground = true }.Start();
    }
    public long Steps;
    private void Loop()
    {
        while (true)
        {
            while (work.Reader.TryRead(out var action)) action();
            if (running.Count == 0) { if (!work.Reader.WaitToReadAsync().AsTask().GetAwaiter().GetResult()) return; continue; }
            Thread.Sleep(1);
            Steps++;
            foreach (var r in running.ToArray())
            {
                if (r.Stop.IsCancellationRequested) { running.Remove(r); continue; }
                r.Tokens.Add((int)(r.Request.Sampling.Seed % 50) + r.Sample);
                if (r.Tokens.Count < r.Request.Sampling.MaxTokens) continue;
                running.Remove(r);
                r.To.TryWrite(new() { RequestId = r.Request.Id, SampleIndex = r.Sample, Tokens = [.. r.Tokens], LogProbs = new float[r.Tokens.Count], WeightVersions = [.. r.Tokens.Select(_ => engine.Version)], FinishReason = FinishReason.Length, Text = "" });
                if (--r.Left[0] == 0) r.To.Complete();
            }
        }
    }
    public async IAsyncEnumerable<Completion> CompletionsAsync(IReadOnlyList<GenerationRequest> requests, [EnumeratorCancellation] CancellationToken cancellation = default)
    {
        foreach (var r in requests) if (r.PromptTokens.Length + r.Sampling.MaxTokens > engine.Weights.Layout.Config.MaxPositions) throw new ArgumentException($"request {r.Id}: too long");
        var channel = Channel.CreateUnbounded<Completion>();
        int[] left = [requests.Sum(r => r.Sampling.Samples)];
        work.Writer.TryWrite(() => { foreach (var r in requests) for (int i = 0; i < r.Sampling.Samples; i++) running.Add((r, i, [], channel.Writer, left, cancellation)); });
        await foreach (var c in channel.Reader.ReadAllAsync(cancellation)) yield return c;
    }
    public Task<T> BetweenStepsAsync<T>(Func<Engine, T> action)
    {
        var done = new TaskCompletionSource<T>(TaskCreationOptions.RunContinuationsAsynchronously);
        work.Writer.TryWrite(() => { try { done.SetResult(action(engine)); } catch (Exception e) { done.SetException(e); } });
        return done.Task;
    }
    public ValueTask DisposeAsync() { work.Writer.TryComplete(); return default; }
}
