using SimpleR1.Tensors.Cpu;

namespace SimpleR1.Inference.Scheduling;

/// <summary>Where a sample comes from, and the limits it runs under.</summary>
/// <param name="Sample">Which sample it is, and the tokens that it has already.</param>
/// <param name="Arrival">Earlier arrivals run first among equal priorities.</param>
/// <param name="Context">The engine's longest context.</param>
internal sealed record SequenceOrigin(
    GenerationRequest Request,
    PartialSample Sample,
    Submission Submission,
    long Arrival,
    int Context
);

/// <summary>The requests of one <see cref="Engine.Submit"/>, and the callbacks for their results.</summary>
internal sealed record Submission(Action<TokenEvent>? OnToken, Action<Completion>? OnCompletion);

/// <summary>
/// One sample of a request while the engine works on it. The last tokens may be drawn on the device but not known here
/// yet: the scheduler plans with <see cref="Length"/>, which counts them; everything else sees the known ones.
/// </summary>
/// <param name="text">Decodes the output; null without a tokenizer.</param>
internal sealed class Sequence(SequenceOrigin origin, CompletionText? text)
{
    private int[] tokens = [.. origin.Request.PromptTokens, .. origin.Sample.Tokens];

    public GenerationRequest Request => origin.Request;

    /// <summary>Which of the request's samples, from 0.</summary>
    public int Sample => origin.Sample.Index;
    public Submission Submission => origin.Submission;
    public long Arrival => origin.Arrival;
    public CompletionText? Text => text;

    /// <summary>Seed of the stream that this sample draws from.</summary>
    public ulong Seed { get; } = Sampling.StreamSeed(origin.Request.Sampling.Seed, origin.Sample.Index);

    /// <summary>Tokens of prompt and output that are known.</summary>
    public int Known { get; private set; } = origin.Request.PromptTokens.Length + origin.Sample.Tokens.Length;

    /// <summary>Tokens that are being drawn.</summary>
    public int InFlight { get; private set; }

    /// <summary>Tokens known and in flight.</summary>
    public int Length => Known + InFlight;

    /// <summary>Tokens of the output that are known.</summary>
    public int OutputLength => Known - Request.PromptTokens.Length;
    public ReadOnlySpan<int> Tokens => tokens.AsSpan(0, Known);
    public ReadOnlySpan<int> Output => tokens.AsSpan(Request.PromptTokens.Length, OutputLength);

    /// <summary>The length at which the sample ends, if nothing ends it before.</summary>
    public int MaxLength { get; } =
        (int)Math.Min((long)origin.Request.PromptTokens.Length + origin.Request.Sampling.MaxTokens, origin.Context);

    /// <summary>All of its tokens are known or in flight: nothing of it is left to compute.</summary>
    public bool Exhausted => Length >= MaxLength;

    /// <summary>Block table: block i holds positions i · blockSize and on.</summary>
    public List<int> Blocks { get; } = [];

    /// <summary>Tokens whose keys and values are in the cache.</summary>
    public int Computed { get; set; }

    /// <summary>Positions whose keys and values were computed before a preemption, and are to be computed again.</summary>
    public int Lost { get; set; }

    /// <summary>Tokens whose keys and values are not in the cache.</summary>
    public int Pending => Length - Computed;

    /// <summary>
    /// Tokens that it had when it was admitted last. Up to here it is prefilled, from here on it decodes: the keys before
    /// a token that it decodes were written in earlier steps.
    /// </summary>
    public int LengthAtAdmission { get; set; }

    /// <summary>One token is missing: the one that was just sampled.</summary>
    public bool Decoding => Computed >= LengthAtAdmission && Pending == 1;

    /// <summary>Its row in the device's tables while it runs; −1 while it waits.</summary>
    public int Slot { get; set; } = -1;

    /// <summary>How often it was admitted: with the slot, this tells one stay in the tables from another.</summary>
    public int Admissions { get; set; }

    /// <summary>Number of full blocks that are registered in the pool.</summary>
    public int Registered { get; set; }

    /// <summary>The prefix that ends with the last registered block.</summary>
    public long Prefix { get; set; }

    /// <summary>Tokens that the cache had when the sequence was first admitted; -1 before.</summary>
    public int CachedPromptTokens { get; set; } = -1;

    public bool Finished { get; set; }
    public List<float> LogProbs { get; } = [.. origin.Sample.LogProbs];
    public List<int> WeightVersions { get; } = [.. origin.Sample.WeightVersions];
    public List<TokenLogProb[]>? TopLogProbs { get; } =
        origin.Request.Sampling.TopLogProbs > 0 ? [.. origin.Sample.TopLogProbs ?? []] : null;

    /// <summary>How often each token is in the output; null without penalties.</summary>
    public Dictionary<int, int>? OutputCounts { get; } =
        origin.Request.Sampling.HasPenalties ? origin.Sample.Tokens.CountBy(token => token).ToDictionary() : null;

    /// <summary>The prompt's tokens; null without a repetition penalty.</summary>
    public HashSet<int>? PromptSet { get; } =
        origin.Request.Sampling.RepetitionPenalty == 1 ? null : [.. origin.Request.PromptTokens];

    /// <summary>Counts one more token that is being drawn.</summary>
    public void MarkInFlight() => InFlight++;

    /// <summary>Appends the oldest token in flight.</summary>
    public void Append(int token, float logProb, int weightVersion)
    {
        if (Known == tokens.Length)
            Array.Resize(ref tokens, Math.Max(16, 2 * tokens.Length));
        tokens[Known++] = token;
        InFlight--;

        LogProbs.Add(logProb);
        WeightVersions.Add(weightVersion);
        if (OutputCounts is not null)
            OutputCounts[token] = OutputCounts.GetValueOrDefault(token) + 1;
    }

    /// <summary>Appends the text of the token that was appended last.</summary>
    /// <param name="endIds">The model's end-of-sequence ids.</param>
    /// <param name="piece">The text that has become certain.</param>
    /// <returns>Whether the token is an ending id, or completes a stop string.</returns>
    public bool AppendText(int token, IReadOnlyList<int> endIds, out string piece)
    {
        var s = Request.Sampling;
        bool mayStop = OutputLength >= s.MinTokens;
        bool isOwnEnd = !s.IgnoreEos && endIds.Contains(token);
        bool stops = mayStop && (isOwnEnd || s.StopTokenIds.Contains(token));
        piece = "";
        if (text is null)
            return stops;

        if (stops)
        {
            // The ending id is in the tokens. Its text is part of the answer only where that was asked for.
            piece = s.IncludeStopString && !isOwnEnd ? text.FlushWith(token) : text.Flush();
            return true;
        }

        return text.Append(token, mayStop, out piece);
    }

    /// <summary>The sample as it is now, ended for this reason.</summary>
    public Completion ToCompletion(FinishReason reason) =>
        new()
        {
            RequestId = Request.Id,
            SampleIndex = Sample,
            Tokens = Output.ToArray(),
            LogProbs = [.. LogProbs],
            WeightVersions = [.. WeightVersions],
            FinishReason = reason,
            Text = text?.Text ?? "",
            TopLogProbs = TopLogProbs is null ? null : [.. TopLogProbs],
            CachedPromptTokens = Math.Clamp(CachedPromptTokens, 0, Request.PromptTokens.Length),
        };

    /// <summary>The order in which sequences run: smaller priority, then earlier arrival.</summary>
    public static readonly IComparer<Sequence> Order = Comparer<Sequence>.Create(
        (a, b) =>
            a.Request.Priority != b.Request.Priority
                ? a.Request.Priority.CompareTo(b.Request.Priority)
                : a.Arrival.CompareTo(b.Arrival)
    );
}
