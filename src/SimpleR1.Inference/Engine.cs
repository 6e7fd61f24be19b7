using System.Diagnostics;
using SimpleR1.Inference.Cpu;
using SimpleR1.Inference.Cuda;
using SimpleR1.Models;
using SimpleR1.Models.Tokenization;

namespace SimpleR1.Inference;

/// <summary>
/// Completes prompts with one model: continuous batching over a paged KV cache. Synchronous and of one thread; whoever owns it calls
/// <see cref="Step"/> until it returns false, and may do anything in between, a weight update included. <see cref="EngineThread"/> is the asynchronous edge.
/// </summary>
public sealed class Engine : IDisposable
{
    private readonly Models.Decoder decoder;
    private readonly Tokenizer? tokenizer;
    private readonly BlockPool pool;
    private readonly Scheduler scheduler;
    private readonly IModelRunner runner;
    private readonly Dictionary<string, List<Sequence>> active = [];
    private readonly Queue<(List<Sequence> Sampling, int WeightVersion)> launched = []; // steps whose tokens have not arrived
    private readonly Stack<List<Sequence>> spare = []; // lists to use again
    private int watched; // sequences whose next step depends on what the last one drew
    private long arrivals,
        steps,
        computedTokens,
        sampledTokens,
        finishedSequences,
        stepTicks,
        launchTicks;
    private bool idle = true;
    private Exception? failure;

    /// <param name="tokenizer">For texts and stop strings; without one, completions have tokens only.</param>
    public Engine(Models.Decoder decoder, Tokenizer? tokenizer, EngineOptions options)
    {
        options.Check(decoder.Config);
        tokenizer?.CheckFits(decoder.Config);
        (this.decoder, this.tokenizer, Options) = (decoder, tokenizer, options);
        runner = decoder.Weights.Device is { } gpu
            ? new CudaRunner(gpu, decoder, options)
            : new CpuRunner(decoder, options);
        pool = new(runner.Blocks, options.BlockSize, options.PrefixCaching);
        scheduler = new(pool, options.MaxBatchedTokens, options.MaxSequences);
    }

    public EngineOptions Options { get; }
    public ModelConfig Config => decoder.Config;
    public FlatWeights Weights => decoder.Weights;

    /// <summary>The version that tokens are marked with; see <see cref="SetWeightVersion"/>.</summary>
    public int WeightVersion { get; private set; }
    public bool HasWork => active.Count > 0 || launched.Count > 0;

    /// <summary>Where it runs and what memory it took, for people; null on a CPU.</summary>
    public string? Description => runner.Description;

    public EngineStatistics Statistics =>
        new()
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
            StepSeconds = stepTicks / (double)Stopwatch.Frequency,
            GpuSeconds = runner.GpuSeconds,
            WaitSeconds = runner.WaitSeconds,
            LaunchSeconds = launchTicks / (double)Stopwatch.Frequency,
        };

    /// <summary>Enqueues requests, all or none. Callbacks run inside <see cref="Step"/> and <see cref="Abort"/>, on their thread.</summary>
    /// <exception cref="ArgumentException">A request is out of range, can never fit, or has the id of one that is still running.</exception>
    public void Submit(
        IReadOnlyList<GenerationRequest> requests,
        Action<TokenEvent>? onToken = null,
        Action<Completion>? onCompletion = null
    )
    {
        ThrowIfFailed();
        var ids = new HashSet<string>();
        foreach (var request in requests)
        {
            RequestCheck.Check(request, Config, Options, pool.Count, tokenizer is not null);
            if (active.ContainsKey(request.Id) || !ids.Add(request.Id))
                throw new ArgumentException(
                    $"request '{request.Id}': another one with this id is running; give each its own"
                );
        }
        var submission = new Submission(onToken, onCompletion);
        foreach (var request in requests)
        {
            var samples = new List<Sequence>(request.Count);
            foreach (
                var part in request.Parts
                    ?? [.. Enumerable.Range(0, request.Sampling.Samples).Select(i => new PartialSample(i))]
            )
            {
                var text = tokenizer is null
                    ? null
                    : new CompletionText(tokenizer, request.Sampling.StopStrings, request.Sampling.IncludeStopString);
                for (int i = 0; i < part.Tokens.Length; i++)
                    text?.Append(part.Tokens[i], mayStop: i + 1 >= request.Sampling.MinTokens, out _);
                samples.Add(new(request, part, submission, arrivals++, text, Options.ContextOf(Config)));
                scheduler.Add(samples[^1]);
            }
            active.Add(request.Id, samples);
            if (request.Sampling.BadWords.Count > 0)
                watched += samples.Count;
        }
    }

    /// <summary>Ends all samples of a request that still run; they complete as aborted, with what they have.</summary>
    /// <returns>Whether it was running.</returns>
    public bool Abort(string requestId)
    {
        if (!active.TryGetValue(requestId, out var samples))
            return false;
        foreach (var sequence in samples.ToArray())
            Report(sequence, sequence.Text?.Flush() ?? "", FinishReason.Aborted);
        CheckIdle();
        return true;
    }

    /// <summary>
    /// One forward pass over what the scheduler chose, and the next token of each sequence that has all of its tokens computed. On a GPU the step
    /// is launched, and the tokens of the step before are taken: the GPU computes while the host thinks.
    /// </summary>
    /// <returns>False when there is nothing to do.</returns>
    /// <exception cref="ArithmeticException">Logits are not finite. After an exception the engine takes no more work.</exception>
    public bool Step()
    {
        ThrowIfFailed();
        if (!HasWork)
            return false;
        long start = Stopwatch.GetTimestamp();
        try
        {
            idle = false;
            if (watched > 0)
                TakeAll();
            bool some = active.Count > 0 && Launch();
            if (launched.Count > (some ? runner.Lookahead : 0))
                Take();
            CheckIdle();
            stepTicks += Stopwatch.GetTimestamp() - start;
            return true;
        }
        catch (Exception e)
        {
            failure = e;
            throw;
        }
    }

    /// <summary>Takes the tokens of all launched steps: after it, nothing runs, and the weights may be written.</summary>
    public void Quiesce()
    {
        ThrowIfFailed();
        try
        {
            TakeAll();
        }
        catch (Exception e)
        {
            failure = e;
            throw;
        }
        runner.Synchronize();
    }

    /// <summary>Makes steps until every sequence that has begun is finished, and begins none; then nothing runs, as after <see cref="Quiesce"/>.</summary>
    /// <exception cref="TimeoutException">They take longer; they go on at the next step.</exception>
    public void FinishStarted(TimeSpan timeout)
    {
        long start = Stopwatch.GetTimestamp();
        scheduler.OnlyStarted = true;
        try
        {
            while (scheduler.AnyStarted)
            {
                if (Stopwatch.GetElapsedTime(start) > timeout)
                    throw new TimeoutException(
                        $"waited {timeout.TotalSeconds:0.#} s for {scheduler.Running.Count} running sequences to finish before a weight update"
                    );
                Step();
            }
            Quiesce();
        }
        finally
        {
            scheduler.OnlyStarted = false;
        }
    }

    /// <summary>
    /// Marks the tokens of the steps from now on. The weights themselves are written straight into <see cref="Weights"/>, between two steps,
    /// after <see cref="Quiesce"/>.
    /// </summary>
    public void SetWeightVersion(int version) => WeightVersion = version;

    /// <summary>Forgets cached prefixes; call it after each weight update. Running sequences keep their keys and values.</summary>
    public void ResetPrefixCache() => pool.ResetCache();

    /// <summary>Makes running sequences compute their keys and values again, with the weights as they are now; call it after <see cref="ResetPrefixCache"/>.</summary>
    public void RecomputeRunning() => scheduler.PreemptAll();

    /// <exception cref="InvalidOperationException">Blocks are held by nobody, or twice, or otherwise not as they must; says what.</exception>
    public void CheckInvariants()
    {
        pool.CheckInvariants(scheduler.Running.Select(s => s.Blocks));
        if (
            scheduler.Running.Count + scheduler.Waiting.Count != active.Values.Sum(s => s.Count)
            || scheduler.Waiting.Any(s => s.Blocks.Count > 0)
        )
            throw new InvalidOperationException(
                $"engine: {active.Values.Sum(s => s.Count)} sequences are active, {scheduler.Running.Count} run and {scheduler.Waiting.Count} wait, {scheduler.Waiting.Count(s => s.Blocks.Count > 0)} of these with blocks"
            );
    }

    /// <returns>Whether there was anything to launch.</returns>
    private bool Launch()
    {
        var batch = scheduler.Schedule();
        if (batch.Count == 0)
            return launched.Count > 0
                ? false
                : throw new InvalidOperationException(
                    $"engine: {scheduler.Waiting.Count} sequences wait but none can run, with {pool.Free} of {pool.Count} blocks free"
                );
        var sampling = spare.TryPop(out var list) ? list : [];
        foreach (var (sequence, count) in batch)
            if (sequence.Computed + count == sequence.Length)
                sampling.Add(sequence);
        long start = Stopwatch.GetTimestamp();
        runner.Launch(batch, sampling);
        launchTicks += Stopwatch.GetTimestamp() - start;
        foreach (var (sequence, count) in batch)
        {
            sequence.Computed += count;
            computedTokens += count;
        }
        foreach (var sequence in sampling)
            sequence.Expect();
        launched.Enqueue((sampling, WeightVersion));
        steps++;
        return true;
    }

    private void TakeAll()
    {
        while (launched.Count > 0)
            Take();
    }

    /// <summary>Takes the tokens of the oldest launched step.</summary>
    private void Take()
    {
        var (sampling, version) = launched.Dequeue();
        var results = runner.Collect();
        for (int i = 0; i < sampling.Count; i++)
            if (!sampling[i].Finished)
                Advance(sampling[i], results[i], version); // it may have ended since: by a token before, or by an abort in a callback
        sampling.Clear();
        spare.Push(sampling);
    }

    /// <summary>Appends a token, decides whether the sample ends with it, and tells.</summary>
    private void Advance(Sequence sequence, Sampled next, int version)
    {
        var s = sequence.Request.Sampling;
        sequence.Append(next.Token, next.LogProb, version);
        sequence.TopLogProbs?.Add(next.Top!);
        sampledTokens++;
        bool mayStop = sequence.OutputLength >= s.MinTokens,
            stops =
                mayStop
                && (s.StopTokenIds.Contains(next.Token) || (!s.IgnoreEos && Config.EosTokenIds.Contains(next.Token)));
        string piece = "";
        if (sequence.Text is { } text)
        {
            if (stops && !s.IncludeStopString)
                piece = text.Flush(); // the ending id is in the tokens, its text is no part of the answer
            else if (text.Append(next.Token, mayStop, out piece))
                stops = true;
            else if (stops)
                piece += text.Flush();
        }
        bool full = sequence.Known >= sequence.MaxLength;
        if (stops || full)
        {
            if (!stops)
                piece += sequence.Text?.Flush();
            Report(sequence, piece, stops ? FinishReason.Stop : FinishReason.Length);
        }
        else
            sequence.Submission.OnToken?.Invoke(
                new(sequence.Request.Id, sequence.Sample, next.Token, next.LogProb, next.Top, version, piece, null)
            );
    }

    private void Report(Sequence sequence, string piece, FinishReason reason)
    {
        sequence.Finished = true;
        scheduler.Remove(sequence);
        var siblings = active[sequence.Request.Id];
        siblings.Remove(sequence);
        if (siblings.Count == 0)
            active.Remove(sequence.Request.Id);
        finishedSequences++;
        if (sequence.Request.Sampling.BadWords.Count > 0)
            watched--;
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
            CachedPromptTokens = Math.Clamp(sequence.CachedPromptTokens, 0, sequence.Request.PromptTokens.Length),
        };
        bool hasToken = reason != FinishReason.Aborted;
        sequence.Submission.OnToken?.Invoke(
            hasToken
                ? new(
                    sequence.Request.Id,
                    sequence.Sample,
                    completion.Tokens[^1],
                    completion.LogProbs[^1],
                    completion.TopLogProbs?[^1],
                    completion.WeightVersions[^1],
                    piece,
                    completion
                )
                : new(sequence.Request.Id, sequence.Sample, -1, 0, null, WeightVersion, piece, completion)
        );
        sequence.Submission.OnCompletion?.Invoke(completion);
    }

    /// <summary>With nothing running, all blocks must be free: a leak shows here, not as a full cache hours later.</summary>
    private void CheckIdle()
    {
        if (active.Count > 0 || idle)
            return;
        idle = true;
        if (pool.Free != pool.Count || scheduler.Running.Count + scheduler.Waiting.Count > 0)
            throw new InvalidOperationException(
                $"engine: no request is active, but {pool.Count - pool.Free} blocks are held, {scheduler.Running.Count} sequences run and {scheduler.Waiting.Count} wait"
            );
    }

    private void ThrowIfFailed()
    {
        if (failure is not null)
            throw new InvalidOperationException(
                "the engine has failed before and takes no more work: " + failure.Message,
                failure
            );
    }

    public void Dispose()
    {
        runner.Dispose();
    }
}
