using System.Runtime.InteropServices;
using SimpleR1.Models;
using SimpleR1.Models.Tokenization;
using SimpleR1.Tensors;
using static TorchSharp.torch;

namespace SimpleR1.Inference;

/// <summary>
/// Completes prompts with one model: continuous batching over a paged KV cache. Synchronous and of one thread; whoever owns it calls
/// <see cref="Step"/> until it returns false, and may do anything in between, a weight update included. <see cref="EngineThread"/> is the asynchronous edge.
/// </summary>
public sealed unsafe class Engine : IDisposable
{
    /// <summary>Logits of more rows than fit in this are made part by part.</summary>
    private const long LogitBytes = 64L << 20;

    private readonly Models.Decoder decoder;
    private readonly Tokenizer? tokenizer;
    private readonly BlockPool pool;
    private readonly KvCache cache;
    private readonly Scheduler scheduler;
    private readonly PagedAttention attention;
    private readonly Dictionary<string, List<Sequence>> active = [];
    private readonly long* inputs; // [2, MaxBatchedTokens]: ids, positions
    private readonly Sampled[] sampled;
    private readonly List<Sequence> sampling = [];
    private long arrivals, steps, computedTokens, sampledTokens, finishedSequences;
    private bool idle = true;
    private Exception? failure;

    /// <param name="tokenizer">For texts and stop strings; without one, completions have tokens only.</param>
    public Engine(Models.Decoder decoder, Tokenizer? tokenizer, EngineOptions options)
    {
        options.Check(decoder.Config);
        tokenizer?.CheckFits(decoder.Config);
        (this.decoder, this.tokenizer, Options) = (decoder, tokenizer, options);
        int blocks = options.BlocksOf(decoder.Config);
        pool = new(blocks, options.BlockSize, options.PrefixCaching);
        cache = new(decoder.Config, blocks, options.BlockSize);
        scheduler = new(pool, options.MaxBatchedTokens, options.MaxSequences);
        attention = new(decoder.Config, cache, options.BlockSize);
        inputs = (long*)NativeMemory.Alloc((nuint)options.MaxBatchedTokens, 2 * sizeof(long));
        sampled = new Sampled[options.MaxSequences];
    }

    public EngineOptions Options { get; }
    public ModelConfig Config => decoder.Config;
    public FlatWeights Weights => decoder.Weights;
    /// <summary>The version that tokens are marked with; see <see cref="SetWeightVersion"/>.</summary>
    public int WeightVersion { get; private set; }
    public bool HasWork => active.Count > 0;

    public EngineStatistics Statistics => new()
    {
        Running = scheduler.Running.Count,
        Waiting = scheduler.Waiting.Count,
        BlocksInUse = pool.Count - pool.Free,
        Blocks = pool.Count,
        CachedBlocks = pool.Cached,
        Steps = steps,
        ComputedTokens = computedTokens,
        SampledTokens = sampledTokens,
        PrefixQueriedTokens = scheduler.PrefixQueriedTokens,
        PrefixHitTokens = scheduler.PrefixHitTokens,
        Preemptions = scheduler.Preemptions,
        FinishedSequences = finishedSequences,
        WeightVersion = WeightVersion,
    };

    /// <summary>Enqueues requests, all or none. Callbacks run inside <see cref="Step"/> and <see cref="Abort"/>, on their thread.</summary>
    /// <exception cref="ArgumentException">A request is out of range, can never fit, or has the id of one that is still running.</exception>
    public void Submit(IReadOnlyList<GenerationRequest> requests, Action<TokenEvent>? onToken = null, Action<Completion>? onCompletion = null)
    {
        ThrowIfFailed();
        var ids = new HashSet<string>();
        foreach (var request in requests)
        {
            RequestCheck.Check(request, Config, Options, tokenizer is not null);
            if (active.ContainsKey(request.Id) || !ids.Add(request.Id)) throw new ArgumentException($"request '{request.Id}': another one with this id is running; give each its own");
        }
        var submission = new Submission(onToken, onCompletion);
        foreach (var request in requests)
        {
            var samples = new List<Sequence>(request.Sampling.Samples);
            for (int i = 0; i < request.Sampling.Samples; i++)
            {
                var text = tokenizer is null ? null : new CompletionText(tokenizer, request.Sampling.StopStrings, request.Sampling.IncludeStopString);
                samples.Add(new(request, i, submission, arrivals++, text));
                scheduler.Add(samples[^1]);
            }
            active.Add(request.Id, samples);
        }
    }

    /// <summary>Ends all samples of a request that still run; they complete as aborted, with what they have.</summary>
    /// <returns>Whether it was running.</returns>
    public bool Abort(string requestId)
    {
        if (!active.TryGetValue(requestId, out var samples)) return false;
        foreach (var sequence in samples.ToArray()) Report(sequence, sequence.Text?.Flush() ?? "", FinishReason.Aborted);
        CheckIdle();
        return true;
    }

    /// <summary>One forward pass over what the scheduler chose, and the next token of each sequence that has all of its tokens computed.</summary>
    /// <returns>False when there is nothing to do.</returns>
    /// <exception cref="ArithmeticException">Logits are not finite. After an exception the engine takes no more work.</exception>
    public bool Step()
    {
        ThrowIfFailed();
        if (active.Count == 0) return false;
        try
        {
            idle = false;
            var batch = scheduler.Schedule();
            if (batch.Count == 0) throw new InvalidOperationException($"engine: {scheduler.Waiting.Count} sequences wait but none can run, with {pool.Free} of {pool.Count} blocks free");
            Forward(batch);
            for (int i = 0; i < sampling.Count; i++)
                if (!sampling[i].Finished) Advance(sampling[i], sampled[i]); // a callback may have aborted it
            steps++;
            CheckIdle();
            return true;
        }
        catch (Exception e)
        {
            failure = e;
            throw;
        }
    }

    /// <summary>Marks the tokens sampled from now on. The weights themselves are written straight into <see cref="Weights"/>, between two steps.</summary>
    public void SetWeightVersion(int version) => WeightVersion = version;

    /// <summary>Forgets cached prefixes; call it after each weight update. Running sequences keep their keys and values.</summary>
    public void ResetPrefixCache() => pool.ResetCache();

    /// <summary>Makes running sequences compute their keys and values again, with the weights as they are now; call it after <see cref="ResetPrefixCache"/>.</summary>
    public void RecomputeRunning() => scheduler.PreemptAll();

    /// <exception cref="InvalidOperationException">Blocks are held by nobody, or twice, or otherwise not as they must; says what.</exception>
    public void CheckInvariants()
    {
        pool.CheckInvariants(scheduler.Running.Select(s => s.Blocks));
        if (scheduler.Running.Count + scheduler.Waiting.Count != active.Values.Sum(s => s.Count) || scheduler.Waiting.Any(s => s.Blocks.Count > 0))
            throw new InvalidOperationException($"engine: {active.Values.Sum(s => s.Count)} sequences are active, {scheduler.Running.Count} run and {scheduler.Waiting.Count} wait, {scheduler.Waiting.Count(s => s.Blocks.Count > 0)} of these with blocks");
    }

    private void Forward(IReadOnlyList<(Sequence Sequence, int Count)> batch)
    {
        attention.Prepare(batch);
        long* ids = inputs, positions = inputs + Options.MaxBatchedTokens;
        int tokens = 0;
        var lastRows = new List<long>(batch.Count);
        sampling.Clear();
        foreach (var (sequence, count) in batch)
        {
            for (int i = 0; i < count; i++, tokens++) (ids[tokens], positions[tokens]) = (sequence.Tokens[sequence.Computed + i], sequence.Computed + i);
            sequence.Computed += count;
            if (sequence.Pending > 0) continue; // more of its prompt next time
            sampling.Add(sequence);
            lastRows.Add(tokens - 1);
        }
        using var scope = NewDisposeScope();
        using var gradients = no_grad();
        var hidden = decoder.Hidden(Aten.FromPointer((nint)ids, [tokens], int64), Aten.FromPointer((nint)positions, [tokens], int64), attention); // [tokens, hidden]
        computedTokens += tokens;
        if (sampling.Count == 0) return;
        if (sampling.Count < tokens) hidden = hidden.index_select(0, tensor(lastRows.ToArray())); // [rows, hidden]
        Sample(hidden);
    }

    private void Sample(Tensor hidden)
    {
        int vocabulary = Config.VocabularySize, chunk = (int)Math.Clamp(LogitBytes / sizeof(float) / vocabulary, 1, sampling.Count);
        for (int from = 0; from < sampling.Count; from += chunk)
        {
            using var scope = NewDisposeScope();
            int rows = Math.Min(chunk, sampling.Count - from);
            var logits = decoder.Logits(hidden.narrow(0, from, rows)); // [rows, vocabulary]
            Sampler.Sample((float*)Aten.DataPointer(logits), vocabulary, Config, sampling, from, rows, sampled);
        }
    }

    /// <summary>Appends a token, decides whether the sample ends with it, and tells.</summary>
    private void Advance(Sequence sequence, Sampled next)
    {
        var s = sequence.Request.Sampling;
        sequence.Append(next.Token, next.LogProb, WeightVersion);
        sequence.TopLogProbs?.Add(next.Top!);
        sampledTokens++;
        bool mayStop = sequence.OutputLength >= s.MinTokens, stops = mayStop && (s.StopTokenIds.Contains(next.Token) || (!s.IgnoreEos && Config.EosTokenIds.Contains(next.Token)));
        string piece = "";
        if (sequence.Text is { } text)
        {
            if (stops && !s.IncludeStopString) piece = text.Flush(); // the ending id is in the tokens, its text is no part of the answer
            else if (text.Append(next.Token, mayStop, out piece)) stops = true;
            else if (stops) piece += text.Flush();
        }
        bool full = sequence.OutputLength >= s.MaxTokens || sequence.Length >= Options.ContextOf(Config);
        if (stops || full)
        {
            if (!stops) piece += sequence.Text?.Flush();
            Report(sequence, piece, stops ? FinishReason.Stop : FinishReason.Length);
        }
        else sequence.Submission.OnToken?.Invoke(new(sequence.Request.Id, sequence.Sample, next.Token, next.LogProb, piece, null));
    }

    private void Report(Sequence sequence, string piece, FinishReason reason)
    {
        sequence.Finished = true;
        scheduler.Remove(sequence);
        var siblings = active[sequence.Request.Id];
        siblings.Remove(sequence);
        if (siblings.Count == 0) active.Remove(sequence.Request.Id);
        finishedSequences++;
        var completion = new Completion
        {
            RequestId = sequence.Request.Id,
            SampleIndex = sequence.Sample,
            Tokens = sequence.Output.ToArray(),
            LogProbs = [.. sequence.LogProbs],
            WeightVersions = [.. sequence.WeightVersions],
            FinishReason = reason,
            Text = sequence.Text?.Text ?? "",
            TopLogProbs = sequence.TopLogProbs is null ? null : [.. sequence.TopLogProbs],
            CachedPromptTokens = Math.Max(0, sequence.CachedPromptTokens),
        };
        bool hasToken = reason != FinishReason.Aborted;
        sequence.Submission.OnToken?.Invoke(new(sequence.Request.Id, sequence.Sample, hasToken ? completion.Tokens[^1] : -1, hasToken ? completion.LogProbs[^1] : 0, piece, completion));
        sequence.Submission.OnCompletion?.Invoke(completion);
    }

    /// <summary>With nothing running, all blocks must be free: a leak shows here, not as a full cache hours later.</summary>
    private void CheckIdle()
    {
        if (active.Count > 0 || idle) return;
        idle = true;
        CheckInvariants();
    }

    private void ThrowIfFailed()
    {
        if (failure is not null) throw new InvalidOperationException("the engine has failed before and takes no more work: " + failure.Message, failure);
    }

    public void Dispose()
    {
        cache.Dispose();
        NativeMemory.Free(inputs);
    }
}
