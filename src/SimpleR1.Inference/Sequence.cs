namespace SimpleR1.Inference;

/// <summary>
/// One sample of a request while it is on its way. Of the tokens of prompt and output, the last may be drawn on the device but not known here yet:
/// the scheduler plans with <see cref="Length"/>, which counts them; everything else sees the known ones.
/// </summary>
/// <param name="part">Which sample it is, and what it has already.</param>
/// <param name="context">The engine's longest context.</param>
internal sealed class Sequence(
    GenerationRequest request,
    PartialSample part,
    Submission submission,
    long arrival,
    CompletionText? text,
    int context
)
{
    private int[] tokens = [.. request.PromptTokens, .. part.Tokens];

    public GenerationRequest Request => request;
    public int Sample => part.Index;
    public Submission Submission => submission;

    /// <summary>Earlier arrivals run first among equal priorities.</summary>
    public long Arrival => arrival;

    /// <summary>Decodes the output; null without a tokenizer.</summary>
    public CompletionText? Text => text;

    /// <summary>The stream that this sample draws from.</summary>
    public ulong Seed { get; } = Tensors.Cpu.Sampling.StreamSeed(request.Sampling.Seed, part.Index);

    /// <summary>Tokens of prompt and output that are known.</summary>
    public int Known { get; private set; } = request.PromptTokens.Length + part.Tokens.Length;

    /// <summary>Tokens that are being drawn.</summary>
    public int OnTheWay { get; private set; }
    public int Length => Known + OnTheWay;
    public int OutputLength => Known - request.PromptTokens.Length;
    public ReadOnlySpan<int> Tokens => tokens.AsSpan(0, Known);
    public ReadOnlySpan<int> Output => tokens.AsSpan(request.PromptTokens.Length, OutputLength);

    /// <summary>The length at which the sample ends, if nothing ends it before.</summary>
    public int MaxLength { get; } =
        (int)Math.Min((long)request.PromptTokens.Length + request.Sampling.MaxTokens, context);

    /// <summary>All of its tokens are known or on the way: nothing of it is left to compute.</summary>
    public bool Exhausted => Length >= MaxLength;

    /// <summary>Block table: block i holds positions i · blockSize and on.</summary>
    public List<int> Blocks { get; } = [];

    /// <summary>Tokens whose keys and values are in the cache.</summary>
    public int Computed { get; set; }
    public int Pending => Length - Computed;

    /// <summary>One token is missing: the one that was just sampled.</summary>
    public bool Decoding => Computed > 0 && Pending == 1;

    /// <summary>Its row in the device's tables while it runs, and how often it was admitted, which tells its stays apart; −1 while it waits.</summary>
    public int Slot { get; set; } = -1;
    public int Admissions { get; set; }

    /// <summary>Full blocks that are registered in the pool, and the prefix that ends with the last of them.</summary>
    public int Registered { get; set; }
    public long Prefix { get; set; }

    /// <summary>Tokens that the cache had when the sequence was first admitted; -1 before.</summary>
    public int CachedPromptTokens { get; set; } = -1;

    public bool Finished { get; set; }
    public List<float> LogProbs { get; } = [.. part.LogProbs];
    public List<int> WeightVersions { get; } = [.. part.WeightVersions];
    public List<TokenLogProb[]>? TopLogProbs { get; } =
        request.Sampling.TopLogProbs > 0 ? [.. part.TopLogProbs ?? []] : null;

    /// <summary>How often each token is in the output; null where no penalty asks.</summary>
    public Dictionary<int, int>? OutputCounts { get; } =
        request.Sampling is { RepetitionPenalty: 1, PresencePenalty: 0, FrequencyPenalty: 0 }
            ? null
            : part.Tokens.CountBy(token => token).ToDictionary();
    public HashSet<int>? PromptSet { get; } =
        request.Sampling.RepetitionPenalty == 1 ? null : [.. request.PromptTokens];

    /// <summary>Its next token is being drawn.</summary>
    public void Expect() => OnTheWay++;

    /// <summary>The oldest of the tokens on the way has arrived.</summary>
    public void Append(int token, float logProb, int weightVersion)
    {
        if (Known == tokens.Length)
            Array.Resize(ref tokens, Math.Max(16, 2 * tokens.Length));
        tokens[Known++] = token;
        OnTheWay--;
        LogProbs.Add(logProb);
        WeightVersions.Add(weightVersion);
        if (OutputCounts is not null)
            OutputCounts[token] = OutputCounts.GetValueOrDefault(token) + 1;
    }

    /// <summary>Who runs first: smaller priority, then earlier arrival.</summary>
    public static readonly IComparer<Sequence> Order = Comparer<Sequence>.Create(
        (a, b) =>
            a.Request.Priority != b.Request.Priority
                ? a.Request.Priority.CompareTo(b.Request.Priority)
                : a.Arrival.CompareTo(b.Arrival)
    );
}

/// <summary>The requests of one <see cref="Engine.Submit"/> and whom to tell about them.</summary>
internal sealed record Submission(Action<TokenEvent>? OnToken, Action<Completion>? OnCompletion);
