namespace SimpleR1.Inference;

/// <summary>How one completion is drawn. The defaults sample the model's own distribution.</summary>
public sealed record SamplingParameters
{
    /// <summary>
    /// Completions of the prompt. Sample j of a request draws from its own stream, derived from (<see cref="Seed"/>,
    /// j).
    /// </summary>
    public int Samples { get; init; } = 1;

    /// <summary>
    /// 0 is greedy: the most probable token (the smallest id among equals), with its log-prob at temperature 1, filters
    /// ignored.
    /// </summary>
    public double Temperature { get; init; } = 1;

    /// <summary>Keep the k most probable tokens, and those as probable as the k-th; 0 keeps all.</summary>
    public int TopK { get; init; }

    /// <summary>Keep the smallest set of most probable tokens whose mass reaches p.</summary>
    public double TopP { get; init; } = 1;

    /// <summary>Keep tokens at least this fraction as probable as the most probable one.</summary>
    public double MinP { get; init; }
    public double RepetitionPenalty { get; init; } = 1;
    public double PresencePenalty { get; init; }
    public double FrequencyPenalty { get; init; }
    public ulong Seed { get; init; }

    /// <summary>Before this many tokens, ending ids are masked and stop strings do not end the completion.</summary>
    public int MinTokens { get; init; }
    public required int MaxTokens { get; init; }

    /// <summary>
    /// Ids that end the completion, in addition to the model's own end-of-sequence ids. The ending id is part of the
    /// output tokens; its text is part of the text only with <see cref="IncludeStopString"/>, and of the model's own
    /// ids never.
    /// </summary>
    public IReadOnlyList<int> StopTokenIds { get; init; } = [];

    /// <summary>
    /// Texts that end the completion. One that is exactly a special token acts as its id, which is no part of the text
    /// otherwise.
    /// </summary>
    public IReadOnlyList<string> StopStrings { get; init; } = [];
    public bool IncludeStopString { get; init; }

    /// <summary>
    /// Special tokens are part of the text. The end-of-sequence id that ends a completion never is.
    /// </summary>
    public bool KeepSpecialTokens { get; init; }
    public bool IgnoreEos { get; init; }

    /// <summary>Added to the logits of single tokens before the temperature.</summary>
    public IReadOnlyDictionary<int, float> LogitBias { get; init; } = new Dictionary<int, float>();

    /// <summary>Token sequences that must not appear.</summary>
    public IReadOnlyList<int[]> BadWords { get; init; } = [];

    /// <summary>How many of the most probable tokens to report at each position, with log-probs.</summary>
    public int TopLogProbs { get; init; }

    /// <summary>Some penalty changes logits by the tokens that the sequence has already.</summary>
    public bool HasPenalties => RepetitionPenalty != 1 || PresencePenalty != 0 || FrequencyPenalty != 0;

    /// <summary>Some filter takes tokens away before the draw; greedy sampling ignores them.</summary>
    public bool HasFilters => Temperature > 0 && (TopK > 0 || TopP < 1 || MinP > 0);

    /// <summary>
    /// A parameter by which samples come from another distribution than the model's at the temperature; null when they
    /// do not.
    /// </summary>
    public string? Change
    {
        get
        {
            if (Temperature == 0)
                return "temperature 0";
            if (HasFilters)
                return "top_k, top_p or min_p";
            if (HasPenalties)
                return "a penalty";
            if (LogitBias.Count > 0)
                return "logit_bias";
            if (BadWords.Count > 0)
                return "bad_words";
            return MinTokens > 0 ? "min_tokens" : null;
        }
    }
}
