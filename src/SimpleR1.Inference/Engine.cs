using System.Diagnostics;
using SimpleR1.Inference.Cpu;
using SimpleR1.Inference.Cuda;
using SimpleR1.Inference.Scheduling;
using SimpleR1.Models;
using SimpleR1.Models.Tokenization;
using SimpleR1.Tensors.Cuda;

namespace SimpleR1.Inference;

/// <summary>
/// Completes prompts with one model: continuous batching over a paged KV cache. Synchronous and single-threaded: its
/// owner calls <see cref="Step"/> until it returns false, and may do anything between two steps, a weight update
/// included. <see cref="EngineThread"/> is the asynchronous edge.
/// </summary>
public sealed class Engine : IDisposable
{
    private readonly Decoder decoder;
    private readonly Tokenizer? tokenizer;
    private readonly BlockPool pool;
    private readonly Scheduler scheduler;
    private readonly IModelRunner runner;
    private readonly Dictionary<string, List<Sequence>> active = [];
    private readonly Queue<(List<Sequence> Sampling, int WeightVersion)> launched = []; // steps in flight
    private readonly Stack<List<Sequence>> spareLists = []; // lists to use again
    private int watched; // sequences whose next step depends on the token that the last one drew
    private long arrivals;
    private long steps;
    private long computedTokens;
    private long sampledTokens;
    private long finishedSequences;
    private long stepTicks;
    private long launchTicks;
    private bool idle = true;
    private Exception? failure;

    /// <param name="tokenizer">For texts and stop strings; without one, completions have tokens only.</param>
    /// <param name="cacheMemory">
    /// A GPU's memory for keys and values, which the caller keeps; by default the engine allocates its own.
    /// </param>
    public Engine(Decoder decoder, Tokenizer? tokenizer, EngineOptions options, DeviceMemory? cacheMemory = null)
    {
        options.Check(decoder.Config);
        tokenizer?.CheckFits(decoder.Config);
        this.decoder = decoder;
        this.tokenizer = tokenizer;
        Options = options;

        runner = decoder.Weights.Device is { } gpu
            ? new CudaRunner(gpu, decoder, options, cacheMemory)
            : new CpuRunner(decoder, options);
        pool = new(runner.Blocks, options.BlockSize, options.PrefixCaching);
        scheduler = new(pool, options.MaxBatchedTokens, options.MaxSequences);
    }

    public EngineOptions Options { get; }
    public ModelConfig Config => decoder.Config;
    public FlatWeights Weights => decoder.Weights;

    /// <summary>The version that tokens are marked with; see <see cref="SetWeightVersion"/>.</summary>
    public int WeightVersion { get; private set; }

    /// <summary>A request is running, or the tokens of a step are in flight.</summary>
    public bool HasWork => active.Count > 0 || launched.Count > 0;

    /// <summary>Whether the engine makes no step, from <see cref="Suspend"/> until <see cref="Resume"/>.</summary>
    public bool IsSuspended { get; private set; }

    /// <summary>Which GPU the engine runs on and what memory it took, for people; null on a CPU.</summary>
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
            RecomputedTokens = scheduler.RecomputedTokens,
            FinishedSequences = finishedSequences,
            WeightVersion = WeightVersion,
            StepSeconds = stepTicks / (double)Stopwatch.Frequency,
            GpuSeconds = runner.GpuSeconds,
            WaitSeconds = runner.WaitSeconds,
            LaunchSeconds = launchTicks / (double)Stopwatch.Frequency,
        };

    /// <summary>
    /// Enqueues requests, all or none. Callbacks run inside <see cref="Step"/> and <see cref="Abort"/>, on their
    /// thread.
    /// </summary>
    /// <exception cref="ArgumentException">
    /// A request is out of range, can never fit, or has the id of a request that is still running.
    /// </exception>
    public void Submit(
        IReadOnlyList<GenerationRequest> requests,
        Action<TokenEvent>? onToken = null,
        Action<Completion>? onCompletion = null
    )
    {
        ThrowIfFailed();
        requests = [.. requests.Select(request => StopTexts.Resolve(request, tokenizer))];
        var ids = new HashSet<string>();
        foreach (var request in requests)
        {
            new RequestCheck(request, Config, Options).Run(pool.Count, tokenizer is not null);
            if (active.ContainsKey(request.Id) || !ids.Add(request.Id))
                throw new ArgumentException(
                    $"request '{request.Id}': another one with this id is running; give each its own id"
                );
        }

        var submission = new Submission(onToken, onCompletion);
        foreach (var request in requests)
            Enqueue(request, submission);
    }

    /// <summary>
    /// Ends all samples of a request that still run; they complete as aborted, with the tokens they have.
    /// </summary>
    /// <returns>Whether the request was running.</returns>
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
    /// Runs one forward pass over what the scheduler chose, and draws the next token of each sequence that has all of
    /// its tokens computed. On a GPU this launches the step and takes the tokens of the step before: the GPU computes
    /// while the host thinks.
    /// </summary>
    /// <returns>False when there is nothing to do, or the engine is suspended.</returns>
    /// <exception cref="ArithmeticException">
    /// Logits are not finite. After an exception the engine takes no more work.
    /// </exception>
    public bool Step()
    {
        ThrowIfFailed();
        if (!HasWork || IsSuspended)
            return false;

        long start = Stopwatch.GetTimestamp();
        try
        {
            idle = false;
            if (watched > 0)
                TakeAll();
            bool hasLaunched = active.Count > 0 && Launch();
            int mayStayInFlight = hasLaunched ? runner.Lookahead : 0;
            if (launched.Count > mayStayInFlight)
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

    /// <summary>
    /// Takes the tokens of all launched steps. Afterwards nothing runs, and the weights may be written.
    /// </summary>
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

    /// <summary>
    /// Makes steps until every sequence that has started is finished, and starts no other. Afterwards nothing runs, as
    /// after <see cref="Quiesce"/>.
    /// </summary>
    /// <exception cref="TimeoutException">The sequences take longer; they continue at the next step.</exception>
    /// <exception cref="InvalidOperationException">Sequences have started, and the engine is suspended.</exception>
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
                        $"waited {timeout.TotalSeconds:0.#} s for {scheduler.Running.Count} running sequences "
                            + "to finish before a weight update"
                    );
                if (!Step())
                    throw new InvalidOperationException(
                        "a suspended engine can't finish the sequences that have started"
                    );
            }
            Quiesce();
        }
        finally
        {
            scheduler.OnlyStarted = false;
        }
    }

    /// <summary>
    /// Sets the version that the tokens of later steps are marked with. The weights themselves are written straight
    /// into <see cref="Weights"/>, between two steps, after <see cref="Quiesce"/>.
    /// </summary>
    public void SetWeightVersion(int version) => WeightVersion = version;

    /// <summary>
    /// Forgets cached prefixes; call it after each weight update. Running sequences keep their keys and values.
    /// </summary>
    public void ResetPrefixCache() => pool.ResetCache();

    /// <summary>
    /// Makes running sequences compute their keys and values again, with the current weights; call it after
    /// <see cref="ResetPrefixCache"/>.
    /// </summary>
    public void RecomputeRunning() => scheduler.PreemptAll();

    /// <summary>
    /// Makes no step until <see cref="Resume"/>: others may use the memory of keys and values, and change the weights.
    /// All keys and values are forgotten; running sequences compute theirs again.
    /// </summary>
    public void Suspend()
    {
        Quiesce();
        ResetPrefixCache();
        RecomputeRunning();
        IsSuspended = true;
    }

    /// <summary>Makes steps again.</summary>
    public void Resume() => IsSuspended = false;

    /// <summary>Checks that sequences, block tables and block pool agree.</summary>
    /// <exception cref="InvalidOperationException">An invariant is broken; the message names it.</exception>
    public void CheckInvariants() => scheduler.CheckInvariants(active.Values.Sum(s => s.Count));

    private void Enqueue(GenerationRequest request, Submission submission)
    {
        var samples = new List<Sequence>(request.Count);
        foreach (var sample in request.SamplesToComplete())
        {
            var text = tokenizer is null ? null : CompletionText.Continue(tokenizer, request, sample.Tokens);
            var origin = new SequenceOrigin(request, sample, submission, arrivals++, Options.ContextOf(Config));
            var sequence = new Sequence(origin, text);
            samples.Add(sequence);
            scheduler.Add(sequence);
        }

        active.Add(request.Id, samples);
        if (request.Sampling.BadWords.Count > 0)
            watched += samples.Count;
    }

    /// <summary>Launches what the scheduler chooses.</summary>
    /// <returns>Whether there was anything to launch.</returns>
    private bool Launch()
    {
        var batch = scheduler.Schedule();
        if (batch.Count == 0)
        {
            if (launched.Count > 0)
                return false;
            throw new InvalidOperationException(
                $"engine: {scheduler.Waiting.Count} sequences wait but none can run, "
                    + $"with {pool.Free} of {pool.Count} blocks free"
            );
        }

        // The sequences whose tokens are all computed with this step: their next token is drawn.
        var sampling = spareLists.TryPop(out var list) ? list : [];
        foreach (var (sequence, count) in batch)
            if (sequence.Computed + count == sequence.Length)
                sampling.Add(sequence);

        long start = Stopwatch.GetTimestamp();
        runner.Launch(batch, sampling);
        launchTicks += Stopwatch.GetTimestamp() - start;

        // From here on the step counts as done.
        foreach (var (sequence, count) in batch)
        {
            sequence.Computed += count;
            computedTokens += count;
        }
        foreach (var sequence in sampling)
            sequence.MarkInFlight();
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
        {
            // A sequence may have ended since: by the token before, or by an abort in a callback.
            if (!sampling[i].Finished)
                Advance(sampling[i], results[i], version);
        }

        sampling.Clear();
        spareLists.Push(sampling);
    }

    /// <summary>Appends a token, decides whether the sample ends with it, and reports it.</summary>
    private void Advance(Sequence sequence, Sampled next, int version)
    {
        sequence.Append(next.Token, next.LogProb, version);
        sequence.TopLogProbs?.Add(next.Top!);
        sampledTokens++;

        bool stops = sequence.AppendText(next.Token, Config.EosTokenIds, out string piece);
        bool isFull = sequence.Known >= sequence.MaxLength;
        if (stops)
            Report(sequence, piece, FinishReason.Stop);
        else if (isFull)
            Report(sequence, piece + sequence.Text?.Flush(), FinishReason.Length);
        else
            sequence.Submission.OnToken?.Invoke(
                new()
                {
                    RequestId = sequence.Request.Id,
                    SampleIndex = sequence.Sample,
                    Token = next.Token,
                    LogProb = next.LogProb,
                    Top = next.Top,
                    WeightVersion = version,
                    Text = piece,
                }
            );
    }

    /// <summary>Ends a sample and reports it.</summary>
    /// <param name="piece">The last piece of its text.</param>
    private void Report(Sequence sequence, string piece, FinishReason reason)
    {
        // Forget the sequence.
        sequence.Finished = true;
        scheduler.Remove(sequence);
        var siblings = active[sequence.Request.Id];
        siblings.Remove(sequence);
        if (siblings.Count == 0)
            active.Remove(sequence.Request.Id);
        finishedSequences++;
        if (sequence.Request.Sampling.BadWords.Count > 0)
            watched--;

        // Report its end.
        var completion = sequence.ToCompletion(reason);
        if (sequence.Submission.OnToken is { } onToken)
        {
            var last = TokenEvent.Of(completion) with { Text = piece };
            if (reason == FinishReason.Aborted)
                last = last with { WeightVersion = WeightVersion };
            onToken(last);
        }

        sequence.Submission.OnCompletion?.Invoke(completion);
    }

    /// <summary>
    /// With nothing running, all blocks must be free: a leak shows here, not as a full cache hours later.
    /// </summary>
    private void CheckIdle()
    {
        if (active.Count > 0 || idle)
            return;
        idle = true;
        scheduler.CheckIdle();
    }

    private void ThrowIfFailed()
    {
        if (failure is not null)
            throw new InvalidOperationException(
                "the engine has failed before and takes no more work: " + failure.Message,
                failure
            );
    }

    public void Dispose() => runner.Dispose();
}
