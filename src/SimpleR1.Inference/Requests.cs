namespace SimpleR1.Inference;

/// <summary>How one completion is drawn. The defaults sample the model's own distribution.</summary>
public sealed record SamplingParameters
{
    /// <summary>Completions of the prompt. Sample j of a request draws with its own stream derived from (<see cref="Seed"/>, j).</summary>
    public int Samples { get; init; } = 1;

    /// <summary>0 is greedy: the most probable token (the smallest id among equals), with its log-prob at temperature 1, filters ignored.</summary>
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
    /// Ids that end the completion, besides the model's own end-of-sequence ids. The ending id is part of the output tokens; its text is
    /// part of the text only with <see cref="IncludeStopString"/>.
    /// </summary>
    public IReadOnlyList<int> StopTokenIds { get; init; } = [];
    public IReadOnlyList<string> StopStrings { get; init; } = [];
    public bool IncludeStopString { get; init; }
    public bool IgnoreEos { get; init; }

    /// <summary>Added to the logits of single tokens before the temperature.</summary>
    public IReadOnlyDictionary<int, float> LogitBias { get; init; } = new Dictionary<int, float>();

    /// <summary>Token sequences that must not appear.</summary>
    public IReadOnlyList<int[]> BadWords { get; init; } = [];

    /// <summary>How many of the most probable tokens to report at each position, with log-probs.</summary>
    public int TopLogProbs { get; init; }
}

/// <summary>A prompt as token ids, and how to complete it.</summary>
public sealed record GenerationRequest(string Id, int[] PromptTokens, SamplingParameters Sampling)
{
    /// <summary>Smaller runs first when the engine can't run all.</summary>
    public int Priority { get; init; }

    /// <summary>Which of the <see cref="SamplingParameters.Samples"/> to complete, and what each has already; null is all of them, from their first token.</summary>
    public IReadOnlyList<PartialSample>? Parts { get; init; }

    /// <summary>Samples to complete.</summary>
    public int Count => Parts?.Count ?? Sampling.Samples;
}

/// <summary>
/// A sample that was broken off, by a lost worker or by the end of a step. It goes on as if it had never stopped: the same draws, penalties and stop
/// strings, under whatever weights there are now. Only the tokens' keys and values are computed again.
/// </summary>
/// <param name="Index">Which of the request's samples, from 0.</param>
public sealed record PartialSample(int Index)
{
    /// <summary>Generated so far; none of them ended the sample.</summary>
    public int[] Tokens { get; init; } = [];
    public float[] LogProbs { get; init; } = [];
    public int[] WeightVersions { get; init; } = [];

    /// <summary>Per token, where the request asks for them.</summary>
    public TokenLogProb[][]? TopLogProbs { get; init; }
}

public enum FinishReason
{
    Stop,
    Length,
    Aborted,
}

/// <summary>A token and its log-probability under the distribution that the position was sampled from.</summary>
public readonly record struct TokenLogProb(int Token, float LogProb);

/// <summary>One finished sample of a request.</summary>
public sealed record Completion
{
    public required string RequestId { get; init; }

    /// <summary>Which of the request's samples, from 0.</summary>
    public required int SampleIndex { get; init; }

    /// <summary>Generated ids, the ending id included.</summary>
    public required int[] Tokens { get; init; }

    /// <summary>log p of each token under the distribution it was sampled from (after penalties, temperature and filters).</summary>
    public required float[] LogProbs { get; init; }

    /// <summary>Version of the weights that made each token.</summary>
    public required int[] WeightVersions { get; init; }
    public required FinishReason FinishReason { get; init; }

    /// <summary>Decoded text without special tokens, cut before a stop string unless it was to be included.</summary>
    public required string Text { get; init; }

    /// <summary>Per position, when asked for.</summary>
    public TokenLogProb[][]? TopLogProbs { get; init; }

    /// <summary>Prompt tokens whose KV came from the prefix cache.</summary>
    public int CachedPromptTokens { get; init; }
}

/// <summary>One step of one sample while it runs: what streaming sends. <see cref="Completion"/> is set on the last; the texts together are its text.</summary>
/// <param name="Token">The new token; -1 where an abort ended the sample without one.</param>
/// <param name="Top">The most probable tokens at this position, when asked for.</param>
/// <param name="WeightVersion">Of the weights that made the token.</param>
public sealed record TokenEvent(
    string RequestId,
    int SampleIndex,
    int Token,
    float LogProb,
    TokenLogProb[]? Top,
    int WeightVersion,
    string Text,
    Completion? Completion
)
{
    /// <summary>The end of a sample whose tokens nobody was told about.</summary>
    public static TokenEvent Of(Completion c) =>
        c.FinishReason == FinishReason.Aborted
            ? new(c.RequestId, c.SampleIndex, -1, 0, null, -1, c.Text, c)
            : new(
                c.RequestId,
                c.SampleIndex,
                c.Tokens[^1],
                c.LogProbs[^1],
                c.TopLogProbs?[^1],
                c.WeightVersions[^1],
                c.Text,
                c
            );
}
